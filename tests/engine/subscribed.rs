//! Tables fed by logical replication: what is applied fires row triggers only, and of those the ones enabled always.

use crate::{assert_equal, differences};
use pulso::cluster::{Cluster, Options};
use pulso::db;
use std::time::Duration;
use tokio_postgres::Client;

const TABLES: &str = "
  create table t (id int primary key, k int, x numeric);
  create table p (id int, k int, x numeric, primary key (id, k)) partition by range (k);
  create table p_1 (x numeric, k int not null, id int not null);
  alter table p attach partition p_1 for values from (0) to (2);
  create table p_2 partition of p default;
  create table h (id int primary key, shop int);
  create table l (id int primary key, h int references h on delete cascade, x numeric);
  alter table t replica identity full; alter table p_1 replica identity full; alter table p_2 replica identity full";
const OF_T: &str = "select k, count(*) as n, sum(x) as total, max(x) as most from public.t group by k";
const OF_P: &str = "select k % 2 as odd, count(*) as n, sum(x) as total from public.p group by 1";
const JOINED: &str =
    "select h.shop, count(*) as n, sum(l.x) as total from public.l l join public.h h on h.id = l.h group by 1";

/// A publisher and a subscriber, in one server: the slot is made beforehand, since its making waits for all transactions.
async fn pair() -> (Cluster, Client, Client) {
    let cluster = Cluster::start(&Options::temporary().set("wal_level", "logical")).await.unwrap();
    let admin = db::connect(cluster.url()).await.unwrap();
    for name in ["here", "there"] {
        admin.batch_execute(&format!("create database {name}")).await.unwrap();
    }
    let (there, here) =
        (db::connect(&cluster.url_of("there")).await.unwrap(), db::connect(&cluster.url_of("here")).await.unwrap());
    there
        .batch_execute(&format!(
            "{TABLES}; create publication all_of_it for table t, p, h, l with (publish_via_partition_root = true);
             insert into t select i, i % 3, i * 0.5 from generate_series(1, 50) i;
             insert into p select i, i % 5, i * 0.5 from generate_series(1, 50) i;
             insert into h select i, i % 2 from generate_series(1, 5) i; insert into l select i, 1 + i % 5, i from generate_series(1, 20) i"
        ))
        .await
        .unwrap();
    there.batch_execute("select pg_create_logical_replication_slot('feed', 'pgoutput')").await.unwrap();
    here.batch_execute(&format!("create extension pulso; {TABLES}")).await.unwrap();
    (cluster, there, here)
}

async fn subscribe(cluster: &Cluster, here: &Client) {
    here.batch_execute(&format!(
        "create subscription feed connection '{}' publication all_of_it with (create_slot = false, slot_name = 'feed')",
        cluster.url_of("there")
    ))
    .await
    .unwrap();
}

/// Waits until the subscriber has what the publisher has.
async fn arrived(there: &Client, here: &Client) {
    let all = "select (select coalesce(jsonb_agg(t order by id), '[]') from t) || (select coalesce(jsonb_agg(p order by id, k), '[]') from p)
                   || (select coalesce(jsonb_agg(h order by id), '[]') from h) || (select coalesce(jsonb_agg(l order by id), '[]') from l)";
    for _ in 0..600 {
        let [wanted, got] = [there, here].map(|client| client.query_one(all, &[]));
        let (wanted, got) = (wanted.await.unwrap(), got.await.unwrap());
        if wanted.get::<_, serde_json::Value>(0) == got.get::<_, serde_json::Value>(0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the changes do not arrive");
}

async fn refused(client: &Client, statement: &str, part: &str) {
    let error = client.batch_execute(statement).await.expect_err(statement);
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "0A000", "{statement}: {error:?}");
    assert!(error.message().contains(part), "{statement}: {}", error.message());
}

/// Ends the subscription, so that the server can be stopped.
async fn end(cluster: Cluster, here: Client) {
    here.batch_execute("drop subscription feed").await.unwrap();
    drop(here);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_applied_is_counted() {
    let (cluster, there, here) = pair().await;
    here.execute("select pulso.create_rollup('public.of_t', $1)", &[&OF_T]).await.unwrap();
    here.execute("select pulso.create_rollup('public.of_join', $1)", &[&JOINED]).await.unwrap();
    subscribe(&cluster, &here).await;
    // Made when the table is subscribed to already.
    here.execute("select pulso.create_rollup('public.of_p', $1)", &[&OF_P]).await.unwrap();
    let modes =
        here.query("select distinct capture_mode from pulso.rollups where name like '%of__'", &[]).await.unwrap();
    assert_eq!(modes.iter().map(|row| row.get(0)).collect::<Vec<&str>>(), ["row"]);
    arrived(&there, &here).await;
    for statement in [
        "select",
        "insert into t values (101, 1, 5), (102, null, null)",
        "update t set k = k + 1, x = x - 1 where id % 3 = 0",
        "delete from t where id % 7 = 0",
        "begin; insert into t values (201, 1, 1); savepoint s; delete from t; rollback to s; update t set x = 1000 where k = 1; commit",
        "insert into p select i, i % 4, i from generate_series(100, 130) i; update p set k = k + 1 where id % 2 = 0",
        "delete from p where k = 1",
        "update h set shop = shop + 1 where id < 3; delete from h where id = 4",
        "truncate t, p",
        "insert into t values (1, 1, 1); insert into p values (1, 1, 1)",
    ] {
        there.batch_execute(statement).await.unwrap();
        arrived(&there, &here).await;
        for (name, query) in [("public.of_t", OF_T), ("public.of_p", OF_P), ("public.of_join", JOINED)] {
            assert_equal(&here, name, query, statement).await;
        }
        here.batch_execute("select pulso.fold()").await.unwrap();
    }
    // Beside changes made here, and after a repair.
    here.batch_execute("insert into t values (900, 1, 9); update p set x = 4; select pulso.repair('public.of_t')")
        .await
        .unwrap();
    for (name, query) in [("public.of_t", OF_T), ("public.of_p", OF_P)] {
        assert_equal(&here, name, query, "changes made here").await;
    }
    let live: Vec<(String, bool)> = here
        .query("select name, live from pulso.rollups where companion_of is null order by name", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get::<_, String>(0), row.get(1)))
        .collect();
    let live: Vec<(&str, bool)> = live.iter().map(|(name, live)| (name.as_str(), *live)).collect();
    assert_eq!(
        live,
        [("of_join", false), ("of_p", true), ("of_t", true)],
        "foreign keys are not heeded by what applies changes"
    );
    refused(&here, "select pulso.repair('public.of_join')", "logical replication").await;
    refused(&here, &format!("select pulso.create_rollup('public.again', $${JOINED}$$)"), "logical replication").await;
    end(cluster, here).await;
}

/// Without its event triggers Pulso learns late, and says so.
#[tokio::test]
async fn without_event_triggers_a_fold_notices_a_subscription() {
    let (cluster, there, here) = pair().await;
    here.execute("select pulso.create_rollup('public.of_t', $1)", &[&OF_T]).await.unwrap();
    here.batch_execute("alter event trigger pulso_subscriptions_changed disable").await.unwrap();
    subscribe(&cluster, &here).await;
    arrived(&there, &here).await;
    here.batch_execute("select pulso.fold()").await.unwrap();
    let reason: String =
        here.query_one("select reason from pulso.rollups where name = 'of_t'", &[]).await.unwrap().get(0);
    assert!(reason.contains("logical replication"), "{reason}");
    assert_eq!(differences(&here, "public.of_t", OF_T).await, 0);
    here.batch_execute("select pulso.repair('public.of_t')").await.unwrap();
    there
        .batch_execute(
            "delete from t where k = 2; insert into t values (77, 7, 7) on conflict (id) do update set k = 7",
        )
        .await
        .unwrap();
    arrived(&there, &here).await;
    here.batch_execute("select pulso.fold()").await.unwrap();
    assert!(here.query_one("select live from pulso.rollups where name = 'of_t'", &[]).await.unwrap().get::<_, bool>(0));
    assert_equal(&here, "public.of_t", OF_T, "repaired").await;
    end(cluster, here).await;
}
