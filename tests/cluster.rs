//! The private cluster, against real PostgreSQL processes.
#![allow(clippy::unwrap_used)]

mod common;

use common::Db;

#[tokio::test]
async fn each_test_has_a_database_of_its_own() {
    let (one, two) = (Db::empty().await, Db::empty().await);
    one.connect().await.batch_execute("create table t ()").await.unwrap();
    let found = two.connect().await.query_one("select to_regclass('t') is null", &[]).await.unwrap();
    assert!(found.get::<_, bool>(0));
}
