//! What happens to sales after they are sold: a random tenth is voided, priced anew, deleted or moved to another day.

use super::common::Db;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

const VOID: &[&str] = &["update sales set status = 'voided', voided_at = now() where id = any($1)"];

/// A new price on every line, then the header's totals from its lines.
const EDIT: &[&str] = &[
    "update sale_items set unit_price_usd = unit_price_usd * 2 + 0.01, unit_price_bs = (unit_price_usd * 2 + 0.01) * 36.5 where sale_id = any($1)",
    "update sales s
        set totals = s.totals || jsonb_build_object('gross_usd', i.usd, 'total_usd', i.usd, 'gross_bs', i.bs, 'total_bs', i.bs)
       from (select sale_id, sum(qty * unit_price_usd) as usd, sum(qty * unit_price_bs) as bs
               from sale_items where sale_id = any($1) group by sale_id) i
      where i.sale_id = s.id",
];
const DELETE: &[&str] = &["delete from sales where id = any($1)"];
const MOVE: &[&str] = &["update sales set sold_at = sold_at - interval '17 days 5 hours' where id = any($1)"];

/// Changes a random tenth of the invoices, in transactions of one to a hundred, from two connections at once.
pub async fn shake(db: &Db) {
    let seed = std::env::var("PULSO_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| rand::rng().random());
    eprintln!("PULSO_TEST_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let client = db.connect().await;
    let rows = client.query("select id from sales order by id", &[]).await.expect("sales");
    let mut ids: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    ids.shuffle(&mut rng);
    ids.truncate(rows.len() / 10);

    let mut changes: Vec<(&[&str], Vec<Uuid>)> = Vec::new();
    for (kind, part) in [VOID, EDIT, DELETE, MOVE].iter().zip(ids.chunks(ids.len().div_ceil(4))) {
        let mut left = part;
        while !left.is_empty() {
            let (now, later) = left.split_at(rng.random_range(1..=100).min(left.len()));
            changes.push((kind, now.to_vec()));
            left = later;
        }
    }
    changes.shuffle(&mut rng);
    let (one, two) = changes.split_at(changes.len() / 2);
    tokio::join!(apply(db, one), apply(db, two));
}

async fn apply(db: &Db, changes: &[(&[&str], Vec<Uuid>)]) {
    let mut client = db.connect().await;
    for (statements, ids) in changes {
        let transaction = client.transaction().await.expect("begin");
        for statement in *statements {
            let changed = transaction.execute(*statement, &[ids]).await.expect("a change");
            assert!(changed >= ids.len() as u64, "every invoice is there to change");
        }
        transaction.commit().await.expect("commit");
    }
}
