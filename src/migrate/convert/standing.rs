//! How it stands with a table: what it is, whether it can be a hypertable, and why not.

use super::shape::Shape;
use super::{Wanted, noted, rollups, tables};
use crate::db;
use crate::error::Result;
use tokio_postgres::Client;

/// From how many rows on sales pay for being a hypertable: below, an index and its table fit into memory and a month of one
/// shop is read in the same time, and what hypertables cannot do would be given up for nothing.
const PAYS_FROM_ROWS: f64 = 50_000_000.0;
/// The oldest version whose hypertables were tested.
const OLDEST: (u32, u32) = (2, 19);

/// How it stands with a table.
pub enum Standing {
    Hypertable,
    Plain,
    /// On its way.
    Between,
    /// It stays as it is, and why.
    Stays(String),
}

/// Why no table of this database can be a hypertable.
pub async fn unavailable(client: &Client) -> Result<Option<String>> {
    let row = client
        .query_one(
            "select (select a.default_version from pg_available_extensions a where a.name = 'timescaledb'),
                    (select e.extversion from pg_extension e where e.extname = 'timescaledb'),
                    current_setting('server_version_num')::int",
            &[],
        )
        .await?;
    let (there, here): (Option<String>, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
    Ok(match (there, here) {
        (None, None) => Some("TimescaleDB is not installed on this server".to_owned()),
        (Some(version), None) => Some(format!(
            "TimescaleDB {version} is on this server but not in this database: create extension timescaledb, then run it again"
        )),
        (_, Some(version)) => {
            let mut numbers = version.split('.').map_while(|part| part.parse().ok());
            let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
            ((major, minor) < OLDEST).then(|| {
                format!("TimescaleDB {version} is older than {}.{}, the first that was tested", OLDEST.0, OLDEST.1)
            })
        }
    })
}

pub async fn standing(client: &Client, wanted: &Wanted) -> Result<Standing> {
    if let Some(reason) = unavailable(client).await? {
        return Ok(Standing::Stays(reason));
    }
    let conversion = noted(client, &wanted.table).await?;
    if conversion.as_ref().is_some_and(|now| now.phase != "done" || !now.to_hypertable) {
        return Ok(Standing::Between);
    }
    let Some(shape) = Shape::read(client, &wanted.table, &wanted.column).await? else {
        return Ok(Standing::Stays(format!("there is no table {}", wanted.table)));
    };
    if shape.hypertable {
        return Ok(match conversion {
            Some(_) => Standing::Hypertable,
            None => Standing::Stays(format!("{} is a hypertable already, of somebody's own making", wanted.table)),
        });
    }
    if let Some(reason) = stays(client, &shape, wanted).await? {
        return Ok(Standing::Stays(reason));
    }
    Ok(Standing::Plain)
}

/// Why a table stays a plain one.
async fn stays(client: &Client, shape: &Shape, wanted: &Wanted) -> Result<Option<String>> {
    let forced: Option<String> =
        client.query_one("select current_setting('pulso_migrate.hypertable', true)", &[]).await?.get(0);
    let forced =
        forced.is_some_and(|tables| tables.split(',').any(|table| table == shape.table || table == wanted.table));
    if wanted.table == "public.sales" && !forced && shape.rows < PAYS_FROM_ROWS {
        return Ok(Some(format!(
            "stays a plain table below {PAYS_FROM_ROWS} rows: about {:.0} are read as quickly from it, and `id` stays its key; --hypertable sales converts it all the same",
            shape.rows.max(0.0)
        )));
    }
    let mut reasons = shape.refusals.clone();
    reasons.extend(rollups::obstacle(client, &wanted.table).await?);
    Ok((!reasons.is_empty()).then(|| reasons.join("; ")))
}

/// What a hypertable is to an index.
pub struct Chunked {
    pub time: String,
    /// The table in which what is unique without the time is kept, where Pulso made one.
    pub keys: Option<String>,
}

/// `None` where the table is no hypertable.
pub async fn chunked(client: &Client, table: &str) -> Result<Option<Chunked>> {
    if !db::has(client, "timescaledb_information.dimensions").await? {
        return Ok(None);
    }
    let time = "select d.column_name::text from timescaledb_information.dimensions d
                 where to_regclass(format('%I.%I', d.hypertable_schema, d.hypertable_name)) = to_regclass($1) and d.dimension_number = 1";
    let Some(row) = client.query_opt(time, &[&table]).await? else { return Ok(None) };
    let guarded = noted(client, table).await?.is_some_and(|conversion| conversion.notes.guarded);
    Ok(Some(Chunked { time: row.try_get(0)?, keys: guarded.then(|| format!("{table}_keys")) }))
}

/// A migration that joins lines to a table: where that is a hypertable of Pulso's making, to its keys instead. `None` where
/// nothing is to be changed.
pub async fn over_keys(client: &Client, sql: &str) -> Result<Option<String>> {
    let mut changed = None;
    for table in tables().iter().filter(|table| sql.contains(&format!("join {table} "))) {
        if let Some(Chunked { keys: Some(keys), .. }) = chunked(client, table).await? {
            let text = changed.as_deref().unwrap_or(sql);
            changed = Some(text.replace(&format!("join {table} "), &format!("join {keys} ")));
        }
    }
    Ok(changed)
}

/// Tables that were begun, or are done.
pub async fn begun(client: &Client) -> Result<Vec<String>> {
    if !db::has(client, "pulso.conversion").await? {
        return Ok(Vec::new());
    }
    let rows = client.query("select source from pulso.conversion", &[]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
