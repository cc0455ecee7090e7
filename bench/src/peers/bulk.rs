//! One statement over many lines: what each peer adds to it.

use super::figures::Figures;
use super::{Peer, check, refresh};
use crate::{Outcome, server};
use std::time::Instant;

/// The upsert trigger knows of inserts only.
pub const PEERS: [Peer; 4] = [Peer::None, Peer::Pulso, Peer::PgIvm, Peer::Refreshed];
pub const STATEMENTS: [&str; 3] = ["INSERT", "UPDATE", "DELETE"];
pub const ROWS: [u32; 3] = [1_000, 10_000, 100_000];

pub async fn measure(figures: &mut Figures, rounds: usize) -> Outcome<()> {
    println!("\nOne statement over many lines");
    let cluster = server::start(&[("synchronous_commit", "off")]).await?;
    let mut shops = Vec::new();
    for peer in PEERS {
        let client = peer.shop(&cluster).await?;
        client
            .batch_execute(
                "create table lines as select md5(i::text)::uuid as id, s.id as sale_id, 1 + i % 5000 as product_id
                   from (select id, row_number() over () as i from sales) s where i <= 100000;
                 create index on lines (product_id); analyze lines",
            )
            .await?;
        shops.push((peer, client));
    }
    for _ in 0..rounds {
        for rows in ROWS {
            for (peer, client) in &shops {
                for statement in STATEMENTS {
                    let sql = match statement {
                        "INSERT" => format!(
                            "insert into sale_items select id, sale_id, product_id, 2, 10.5 from lines limit {rows}"
                        ),
                        "UPDATE" => format!(
                            "update sale_items set qty = qty + 1 where id in (select id from lines limit {rows})"
                        ),
                        _ => format!("delete from sale_items where id in (select id from lines limit {rows})"),
                    };
                    client.batch_execute("checkpoint").await?;
                    let begun = Instant::now();
                    client.batch_execute(&sql).await?;
                    if *peer == Peer::Refreshed {
                        client.batch_execute(&refresh()).await?;
                    }
                    figures.add(name(statement, rows, *peer), begun.elapsed().as_secs_f64() * 1000.0);
                }
                client.batch_execute("vacuum sale_items").await?;
            }
        }
    }
    for (peer, client) in &shops {
        check(*peer, client).await?;
    }
    drop(shops);
    Ok(cluster.stop().await?)
}

/// The name of a figure.
pub fn name(statement: &str, rows: u32, peer: Peer) -> String {
    format!("bulk, {statement} of {rows}, {}", peer.name())
}
