//! `pulso migrate` against real servers: what it plans, does, leaves alone and takes back.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod adopt;
mod aggregates;
mod carried;
mod figures;
mod history;
mod hypertables;
mod hypertables_load;
mod indexes;
mod load;
mod privileges;
mod reports;
mod runner;
mod tiers;
mod undo;
mod waits;

use common::{Db, cluster};
use pulso::cluster::Cluster;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use tokio_postgres::Client;

/// The binary itself, on this database.
fn command(db: &Db, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pulso"));
    command.arg("migrate").args(args).env("DATABASE_URL", db.url()).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn pulso(db: &Db, args: &[&str]) -> Output {
    command(db, args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until a query says so.
async fn until(client: &Client, what: &str) {
    for _ in 0..500 {
        if one::<bool>(client, what).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

/// The schema as pg_dump writes it, without what differs from dump to dump.
async fn schema(db: &Db) -> String {
    dump_of(cluster().await, db.url())
}

fn dump(cluster: &Cluster) -> String {
    dump_of(cluster, cluster.url())
}

fn dump_of(cluster: &Cluster, url: &str) -> String {
    let dump = cluster.bindir().join("pg_dump");
    let output = Command::new(dump).args(["--schema-only", "-d", url]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Fails with the lines that differ.
fn assert_same(before: &str, after: &str, when: &str) {
    if before == after {
        return;
    }
    let gone: Vec<&str> = before.lines().filter(|line| !after.contains(line)).collect();
    let new: Vec<&str> = after.lines().filter(|line| !before.contains(line)).collect();
    panic!("the schema is not as it was, {when}: gone {gone:#?}, new {new:#?}");
}

async fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(client: &Client, query: &str) -> T {
    client.query_one(query, &[]).await.unwrap_or_else(|error| panic!("{query}: {error:?}")).get(0)
}

/// Some sales in the tables of pack pos, whatever is migrated beside them.
const SALES: &str = "
  insert into stores (id, name) values ('00000000-0000-4000-8000-000000000001', 'Abasto');
  insert into products (id, store_id, name, sku)
  select ('00000000-0000-4000-8000-0000000001' || lpad(i::text, 2, '0'))::uuid, '00000000-0000-4000-8000-000000000001', 'P' || i, i::text
    from generate_series(0, 9) i;
  insert into sales (store_id, number, sold_at, rate, totals, payment)
  select '00000000-0000-4000-8000-000000000001', i::text, now() - i * interval '7 minutes', 40,
         jsonb_build_object('gross_usd', i, 'gross_bs', i * 40, 'total_usd', i, 'total_bs', i * 40, 'items', 2), '{\"method\": \"card\"}'
    from generate_series(1, 2000) i;
  insert into sale_items (sale_id, line_no, product_id, qty, unit_price_bs, unit_price_usd)
  select s.id, n, ('00000000-0000-4000-8000-0000000001' || lpad((s.number::int * n % 10)::text, 2, '0'))::uuid, 1, 40, 1
    from sales s cross join generate_series(1, 2) n;
  analyze";
