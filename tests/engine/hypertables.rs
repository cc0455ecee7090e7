//! Hypertables of TimescaleDB (Apache edition), on each server that `make servers` makes. Their changes are captured row by
//! row: 2.19 crashes at triggers with transition tables, and what names a chunk fires row triggers only.

use crate::assert_equal;
use crate::common::{Community, skip, timescale};
use pulso::cluster::Cluster;
use pulso::db;
use tokio_postgres::Client;

const QUERY: &str = "select store, (at at time zone 'UTC')::date as day, count(*) as n, sum(x) as total, avg(q) as mean
   from public.t where not void group by 1, 2";
const WHOLE: &str = "select count(*) as n, sum(x * q) as value from public.t";

async fn start(major: u32) -> Option<(Cluster, Client)> {
    let cluster = timescale(major).await?;
    let client = db::connect(cluster.url()).await.unwrap();
    client
        .batch_execute(
            "create extension timescaledb; create extension pulso;
             create table t (gone text, id int not null, at timestamptz not null, store int, void boolean not null default false, x numeric, q int, primary key (id, at));
             select create_hypertable('t', 'at', chunk_time_interval => interval '1 day');
             insert into t select 'x', i, timestamptz '2026-01-01' + i * interval '1 hour', i % 3, i % 7 = 0, i * 0.5, i from generate_series(1, 100) i",
        )
        .await
        .unwrap();
    for (name, query) in [("public.r", QUERY), ("public.w", WHOLE)] {
        client.execute("select pulso.create_rollup($1, $2)", &[&name, &query]).await.unwrap();
    }
    let modes = client.query("select distinct capture_mode from pulso.rollups", &[]).await.unwrap();
    assert_eq!(modes.iter().map(|row| row.get(0)).collect::<Vec<&str>>(), ["row"]);
    check(&client, "at first").await;
    Some((cluster, client))
}

async fn check(client: &Client, when: &str) {
    for (name, query) in [("public.r", QUERY), ("public.w", WHOLE)] {
        assert_equal(client, name, query, when).await;
    }
}

async fn refused(client: &Client, statement: &str, state: &str, part: &str) {
    let error = client.batch_execute(statement).await.expect_err(statement);
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), state, "{statement}: {error:?}");
    assert!(error.message().contains(part), "{statement}: {}", error.message());
    assert!(error.hint().is_some(), "{statement}: {error:?}");
}

/// The figures of both rollups, as text.
async fn figures(client: &Client) -> Vec<String> {
    let rows = client.query("select r::text from public.r r union all select w::text from public.w w order by 1", &[]);
    rows.await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn live(major: u32) {
    let Some((cluster, client)) = start(major).await else { return };
    for statement in [
        "insert into t (id, at, store, x, q) values (1001, '2026-01-02 03:00Z', 1, 2, 3), (1002, '2026-03-01Z', null, null, 3)",
        "update t set x = x + 1 where store = 1",
        "update t set store = store + 1, void = not void where id % 5 = 0",
        "update t set x = x",
        "delete from t where id % 11 = 0",
        "insert into t (id, at, store, x, q) values (1001, '2026-01-02 03:00Z', 2, 7, 7), (1003, '2026-04-01Z', 2, 7, 7)
           on conflict (id, at) do update set x = excluded.x, store = excluded.store",
        "insert into t (id, at, store) values (1001, '2026-01-02 03:00Z', 2) on conflict do nothing",
        "merge into t using (values (1003, timestamptz '2026-04-01Z'), (1004, '2026-04-02Z'), (5, '2026-01-01 05:00Z')) m (id, at) on t.id = m.id and t.at = m.at
           when matched and t.store = 2 then delete when matched then update set x = 99 when not matched then insert (id, at, store, x) values (m.id, m.at, 1, 4)",
        "with gone as (delete from t where id % 13 = 0 returning *) insert into t select * from gone",
        "begin; savepoint s; delete from t; rollback to s; update t set q = 1 where id < 9; commit",
        "select pulso.fold()",
        // Chunks made from here on lack a column that their hypertable once had.
        "alter table t drop column gone",
        "insert into t (id, at, store, x, q) select i, timestamptz '2026-06-01Z' + i * interval '7 hours', i % 3, i, i from generate_series(1, 40) i",
        "update t set x = x + 1, q = q - 1 where at > '2026-05-01'",
        "delete from t where at > '2026-05-01' and id % 4 = 0",
        "alter table t add column late int default 5",
        "insert into t (id, at, store, x, q) select i, timestamptz '2026-07-01Z' + i * interval '7 hours', i % 3, i, i from generate_series(1, 10) i",
        "update t set store = 0 where at > '2026-06-02'",
        "select pulso.alter_rollup('public.w', 'select count(*) as n, sum(x * q) as value from public.t')",
    ] {
        client.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        check(&client, statement).await;
    }
    let sink = client.copy_in("copy t (id, at, store, x, q) from stdin").await.unwrap();
    futures_util::pin_mut!(sink);
    futures_util::SinkExt::send(&mut sink, bytes::Bytes::from("1\t2026-01-20\t1\t2.5\t3\n2\t2026-07-20\t1\t2.5\t3\n"))
        .await
        .unwrap();
    assert_eq!(sink.finish().await.unwrap(), 2);
    check(&client, "copy").await;

    // Raw history goes, its figures stay, and verify says where what is left begins.
    let before = figures(&client).await;
    client.batch_execute("select drop_chunks('t', older_than => timestamptz '2026-01-03Z')").await.unwrap();
    assert_eq!(figures(&client).await, before);
    client.batch_execute("select pulso.fold(); insert into t (id, at, store, x, q) values (1, '2026-01-20 01:00Z', 1, 1, 1); delete from t where id = 1 and at = '2026-01-20 01:00Z'").await.unwrap();
    assert_eq!(figures(&client).await, before);
    let different: i64 = client.query_one("select pulso.verify('public.r')", &[]).await.unwrap().get(0);
    assert_ne!(different, 0);
    let different: i64 =
        client.query_one("select pulso.verify('public.r', $$day >= '2026-01-03'$$)", &[]).await.unwrap().get(0);
    assert_eq!(different, 0);
    refused(&client, "select pulso.repair('public.r')", "0A000", "dropped chunks").await;
    assert_eq!(figures(&client).await, before);
    client.batch_execute("truncate t").await.unwrap();
    let left: i64 = client.query_one("select n from public.w", &[]).await.unwrap().get(0);
    assert!(left > 0 && left < 100, "TRUNCATE takes away what was there, not what was dropped before: {left}");
    client.batch_execute("insert into t (id, at) values (1, '2026-01-20')").await.unwrap();
    client.batch_execute("begin isolation level repeatable read").await.unwrap();
    refused(&client, "truncate t", "25001", "TRUNCATE").await;
    client.batch_execute("rollback").await.unwrap();
    refused(
        &client,
        "create table plain (at timestamptz not null); insert into plain values ('2026-01-01'); select pulso.create_rollup('public.p', 'select count(*) as n from public.plain');
         select create_hypertable('plain', 'at', migrate_data => true)",
        "0A000",
        "hypertable public.plain cannot be captured by statement",
    )
    .await;
    let chunk: String = client
        .query_one("select format('%I.%I', chunk_schema, chunk_name) from timescaledb_information.chunks where hypertable_name = 't' limit 1", &[])
        .await
        .unwrap()
        .get(0);
    refused(
        &client,
        &format!("select pulso.create_rollup('public.c', 'select count(*) as n from {chunk}')"),
        "0A000",
        "chunk",
    )
    .await;
    client.batch_execute("select pulso.drop_rollup('public.r'); select pulso.drop_rollup('public.w')").await.unwrap();
    drop(client);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn hypertables_of_timescaledb_2_19() {
    live(17).await;
}

#[tokio::test]
async fn hypertables_of_timescaledb_2_31() {
    live(18).await;
}

const LINES: &str =
    "select h.shop, count(*) as n, sum(l.x) as total from public.l l join public.h h on h.id = l.h group by 1";
const ALONE: &str = "select h, count(*) as n, sum(x) as total from public.l group by 1";

/// What a foreign key does to a hypertable's rows it may do to a chunk, which row triggers see.
async fn keys(major: u32) {
    let Some(cluster) = timescale(major).await else { return };
    let client = db::connect(cluster.url()).await.unwrap();
    client
        .batch_execute(
            "create extension timescaledb; create extension pulso;
             create table h (id int primary key, shop int); insert into h select i, i % 3 from generate_series(1, 9) i;
             create table l (h int references h on delete cascade on update cascade, at timestamptz not null, x numeric);
             select create_hypertable('l', 'at', chunk_time_interval => interval '1 day');
             insert into l select 1 + i % 9, timestamptz '2026-01-01Z' + i * interval '5 hours', i from generate_series(1, 30) i",
        )
        .await
        .unwrap();
    let chunk: String = client.query_one("select show_chunks('l')::text limit 1", &[]).await.unwrap().get(0);
    client.execute("select pulso.create_rollup('public.a', $1)", &[&ALONE]).await.unwrap();
    client.execute("select pulso.create_rollup('public.j', $1)", &[&LINES]).await.unwrap();
    let both = [
        "insert into l select 1 + i % 9, timestamptz '2026-01-01Z' + i * interval '50 minutes', i from generate_series(1, 3000) i".to_owned(),
        "update h set shop = shop + 1 where id in (3, 4)".to_owned(),
        "with h as (update h set shop = shop + 1 where id = 3 returning id) update l set x = x + 1 from h where h.id = l.h".to_owned(),
        format!("with l as (insert into {chunk} values (4, '2026-01-01 01:00Z', 5), (5, '2026-01-01 01:00Z', 5) returning h) update h set shop = shop + 1 where id in (select h from l)"),
        format!("with h as (update h set shop = shop + 1 where id = 4), l as (update {chunk} set x = x + 1 where h = 4) select"),
        format!("with l as (delete from {chunk} where h = -1) update h set shop = shop + 1 where id = 4"),
        "update h set shop = shop + 2; update l set x = -x where h < 4".to_owned(),
        "begin; savepoint s; delete from l where h = 4; rollback to s; update h set shop = 1 where id = 4; commit".to_owned(),
    ];
    for statement in both.iter().map(String::as_str).chain([
        "delete from h where id = 1",
        "update h set id = 100 where id = 2",
        "select pulso.fold()",
        "truncate h cascade",
    ]) {
        client.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        assert_equal(&client, "public.a", ALONE, statement).await;
        assert_equal(&client, "public.j", LINES, statement).await;
    }
    // In row mode a chunk that is named is seen as well.
    client.batch_execute("insert into h values (1); insert into l values (1, '2026-01-01Z', 5)").await.unwrap();
    let chunk: String = client.query_one("select show_chunks('l')::text limit 1", &[]).await.unwrap().get(0);
    client.batch_execute(&format!("update {chunk} set x = x + 1")).await.unwrap();
    assert_equal(&client, "public.a", ALONE, "DML at a chunk").await;
    refused(&client, "create table s (at timestamptz primary key); select create_hypertable('s', 'at'); create table m (s timestamptz references s); select pulso.create_rollup('public.x', 'select s.at, count(*) as n from public.m m join public.s s on s.at = m.s group by 1')", "0A000", "hypertable").await;
    // One that becomes a hypertable while it is empty has the triggers of a plain table.
    client
        .batch_execute("create table late (at timestamptz not null); select pulso.create_rollup('public.late_n', 'select count(*) as n from public.late'); select create_hypertable('late', 'at')")
        .await
        .unwrap();
    refused(&client, "insert into late values ('2026-01-01')", "0A000", "captured by statement").await;
    client
        .batch_execute("select pulso.drop_rollup('public.late_n'); select pulso.create_rollup('public.late_n', 'select count(*) as n from public.late'); insert into late values ('2026-01-01')")
        .await
        .unwrap();
    assert_equal(&client, "public.late_n", "select count(*) as n from public.late", "made again").await;
    drop(client);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn foreign_keys_of_hypertables_on_17() {
    keys(17).await;
}

#[tokio::test]
async fn foreign_keys_of_hypertables_on_18() {
    keys(18).await;
}

/// Rows of compressed chunks, on a server with TimescaleDB's Community edition.
#[tokio::test]
async fn compressed_chunks() {
    let Some(community) = Community::database().await else { return };
    let client = community.connect().await;
    let there = "select exists (select from pg_available_extensions where name = 'pulso')";
    if !client.query_one(there, &[]).await.unwrap().get::<_, bool>(0) {
        return skip("the server of PULSO_TEST_COMMUNITY_URL does not have the extension pulso");
    }
    client
        .batch_execute(
            "create extension pulso;
             create table t (id int not null, at timestamptz not null, store int, void boolean not null default false, x numeric, q int, primary key (id, at));
             select create_hypertable('t', 'at', chunk_time_interval => interval '1 day');
             alter table t set (timescaledb.compress, timescaledb.compress_segmentby = 'store', timescaledb.compress_orderby = 'at desc');
             insert into t select i, timestamptz '2026-01-01Z' + i * interval '1 hour', i % 3, i % 7 = 0, i * 0.5, i from generate_series(1, 100) i",
        )
        .await
        .unwrap();
    for (name, query) in [("public.r", QUERY), ("public.w", WHOLE)] {
        client.execute("select pulso.create_rollup($1, $2)", &[&name, &query]).await.unwrap();
    }
    let compress = "select compress_chunk(c, if_not_compressed => true) from show_chunks('t') c";
    for statement in [
        compress,
        "delete from t where id = 5",
        "delete from t where store = 1 and at < '2026-01-02Z'",
        "update t set x = x + 1 where id = 30",
        "update t set store = 0 where at < '2026-01-03Z' and store = 2",
        "insert into t (id, at, store, x, q) values (1001, '2026-01-02 03:00Z', 1, 2, 3)",
        "insert into t (id, at, store, x, q) values (30, '2026-01-02 06:00Z', 2, 7, 7) on conflict (id, at) do update set x = excluded.x",
        compress,
        "delete from t where at < '2026-01-03Z'",
        "select decompress_chunk(c, true) from show_chunks('t') c",
        compress,
        "select pulso.fold()",
        "delete from t",
        "insert into t select i, timestamptz '2026-01-01Z' + i * interval '1 hour', i % 3, i % 7 = 0, i * 0.5, i from generate_series(1, 100) i",
        compress,
        // A rollup made or mended while chunks are compressed.
        "select pulso.drop_rollup('public.w'); select pulso.create_rollup('public.w', 'select count(*) as n, sum(x * q) as value from public.t')",
        "select pulso.alter_rollup('public.w', 'select count(*) as n, sum(x * q) as value from public.t')",
        "truncate t",
    ] {
        client.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        check(&client, statement).await;
    }
}
