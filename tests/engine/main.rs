//! The extension from outside: what a rollup says is always compared with a recount.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod concurrency;
mod crash;
mod documented;
mod feed;
mod histories;
mod hypertables;
mod install;
mod isolation;
mod joined_histories;
mod joins;
mod kept_snapshots;
mod life;
mod partitions;
mod refusals;
mod restore;
mod sessions;
mod smith;
mod statements;
mod subscribed;
mod upgrade;
mod values;
mod waits;

use tokio_postgres::Client;

/// Rows that differ between a rollup and its query, in one snapshot: 0 unless something is wrong.
///
/// Written out here, so that the engine's own `pulso.verify` is not the judge of itself.
pub async fn differences(client: &Client, rollup: &str, query: &str) -> i64 {
    let sql = comparison(rollup, query);
    client.query_one(&sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

/// How many rows differ, as SQL.
pub fn comparison(rollup: &str, query: &str) -> String {
    format!(
        "select count(*) from (
           (select * from {rollup} except all ({query})) union all (({query}) except all select * from {rollup})
         ) as d"
    )
}

/// Fails, with the rows that differ, unless a rollup equals its query.
pub async fn assert_equal(client: &Client, rollup: &str, query: &str, when: &str) {
    let found = differences(client, rollup, query).await;
    if found != 0 {
        let rows = client
            .query(
                &format!(
                    "(select 'rollup only: ' || r::text from (select * from {rollup} except all ({query})) r)
                     union all (select 'query only: ' || q::text from (({query}) except all select * from {rollup}) q)"
                ),
                &[],
            )
            .await
            .unwrap();
        let rows: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        panic!("{rollup} differs from its query {when}:\n{}", rows.join("\n"));
    }
    let by_engine: i64 = client.query_one("select pulso.verify($1)", &[&rollup]).await.unwrap().get(0);
    assert_eq!(by_engine, 0, "pulso.verify finds differences that a recount does not, {when}");
}
