//! Pulso beside what comes nearest: no trigger at all, pg_ivm, the usual upsert trigger, and materialized views that are
//! refreshed every ten seconds. The same tables, the same tickets and the same three queries (one of them a join) for all.
//!
//! It runs in pieces that can be repeated: each adds its rounds to `target/bench-peers.json`, and `--record` writes
//! the medians of all rounds into `docs/benchmarks.md`.

mod build;
mod bulk;
mod figures;
mod tickets;

use crate::{Outcome, server};
use figures::Figures;
use pulso::cluster::Cluster;
use tokio_postgres::Client;

/// Who keeps the three results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Nobody: what the shop does without.
    None,
    Pulso,
    PgIvm,
    Upsert,
    Refreshed,
}

pub const PEERS: [Peer; 5] = [Peer::None, Peer::Pulso, Peer::PgIvm, Peer::Upsert, Peer::Refreshed];

/// Name and query.
pub const QUERIES: [(&str, &str); 3] = [
    ("analytics.hourly", include_str!("../../sql/peers/hourly.sql")),
    ("analytics.products", include_str!("../../sql/peers/products.sql")),
    ("analytics.store_days", include_str!("../../sql/peers/store_days.sql")),
];

/// The columns that tell a query's groups apart.
const KEYS: [&str; 3] = ["(store_id, hour)", "(product_id)", "(store_id, day)"];

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "no trigger",
            Self::Pulso => "Pulso",
            Self::PgIvm => "pg_ivm",
            Self::Upsert => "upsert trigger",
            Self::Refreshed => "REFRESH every 10 s",
        }
    }

    pub fn database(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pulso => "pulso_rollups",
            Self::PgIvm => "pg_ivm",
            Self::Upsert => "upsert",
            Self::Refreshed => "refreshed",
        }
    }

    /// What makes the three results.
    fn script(self) -> String {
        let each = |make: fn(&str, &str, &str) -> String| {
            QUERIES.iter().zip(KEYS).map(|((name, query), key)| make(name, query, key)).collect::<Vec<_>>().join("; ")
        };
        match self {
            Self::None => String::new(),
            Self::Pulso => {
                format!(
                    "create extension pulso; {}",
                    each(|name, query, _| format!("select pulso.create_rollup('{name}', $${query}$$)"))
                )
            }
            Self::PgIvm => {
                format!(
                    "create extension pg_ivm; {}",
                    each(|name, query, _| format!("select pgivm.create_immv('{name}', $${query}$$)"))
                )
            }
            Self::Upsert => format!(
                "{}; {}",
                each(|name, query, key| format!(
                    "create table {name} as {query}; alter table {name} add primary key {key}"
                )),
                include_str!("../../sql/peers/upsert.sql")
            ),
            Self::Refreshed => each(|name, query, key| {
                format!("create materialized view {name} as {query}; create unique index on {name} {key}")
            }),
        }
    }

    /// Its database, with the tables, their rows and the results over them.
    pub async fn shop(self, cluster: &Cluster) -> Outcome<Client> {
        let tables = include_str!("../../sql/peers/tables.sql");
        server::database(cluster, self.database(), &[tables, &self.script()]).await
    }
}

/// Fails unless the results are what their queries give: a peer that is wrong is not compared.
pub async fn check(peer: Peer, client: &Client) -> Outcome<()> {
    if peer == Peer::None {
        return Ok(());
    }
    if peer == Peer::Refreshed {
        client.batch_execute(&refresh()).await?;
    }
    for (name, query) in QUERIES {
        let columns = match peer {
            // It keeps counts of its own beside the query's columns.
            Peer::PgIvm => columns(client, name).await?,
            _ => "*".to_owned(),
        };
        let sql = format!(
            "select count(*) from ((select {columns} from {name} except all ({query})) union all (({query}) except all select {columns} from {name})) d"
        );
        let differences: i64 = client.query_one(&sql, &[]).await?.get(0);
        if differences != 0 {
            return Err(format!("{}: {name} differs from its query by {differences} rows", peer.name()).into());
        }
    }
    Ok(())
}

async fn columns(client: &Client, name: &str) -> Outcome<String> {
    let sql = "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
                where attrelid = $1::text::regclass and attnum > 0 and attname not like '\\_\\_ivm%'";
    Ok(client.query_one(sql, &[&name]).await?.get(0))
}

pub fn refresh() -> String {
    QUERIES.map(|(name, _)| format!("refresh materialized view concurrently {name}")).join("; ")
}

/// What to measure, and for how long.
pub struct Plan {
    pub only: Vec<String>,
    pub seconds: u32,
    pub rounds: usize,
    pub record: bool,
}

/// The pieces: each takes a few minutes.
pub const PIECES: [&str; 4] = ["tickets-0ms", "tickets-2ms", "bulk", "build"];

pub async fn measure(plan: &Plan) -> Outcome<bool> {
    let mut figures = Figures::load()?;
    let runs = |name: &str| plan.only.is_empty() || plan.only.iter().any(|only| only == name);
    // Without rounds: only the record of what there is.
    for piece in PIECES.into_iter().filter(|piece| plan.rounds > 0 && runs(piece)) {
        match piece {
            "tickets-0ms" => tickets::measure(&mut figures, "0 ms", plan.seconds, plan.rounds).await?,
            "tickets-2ms" => tickets::measure(&mut figures, "2 ms", plan.seconds, plan.rounds).await?,
            "bulk" => bulk::measure(&mut figures, plan.rounds).await?,
            _ => build::measure(&mut figures, plan.rounds).await?,
        }
        figures.save()?;
    }
    let targets = figures.targets();
    for target in &targets {
        println!("{target}");
    }
    if plan.record {
        figures.write_markdown()?;
    }
    Ok(targets.iter().all(figures::Target::is_met))
}
