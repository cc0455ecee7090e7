//! Each kind of statement, one by one; the histories mix them.

use crate::common::Db;
use crate::{assert_equal, differences};
use futures_util::SinkExt;
use tokio_postgres::Client;

const QUERY: &str = "select k, name, count(*) as n, count(x) as present, sum(x) as total, sum(i) as whole, sum(b) as big,
                            avg(i) as mean, avg((case when abs(x) < 1e15 then x end)::numeric(20, 4)) as mean_x, sum(x) filter (where i > 2) as some
                       from public.t where keep group by k, name";

async fn table() -> (Db, Client) {
    let db = Db::empty().await;
    let client = db.connect().await;
    client
        .batch_execute(&format!(
            "create extension pulso;
             create table t (id int primary key, k int, name text, x numeric, i int, b bigint, keep boolean not null default true);
             insert into t values (1, 1, 'a', 1.5, 3, 10), (2, 1, 'a', null, null, null), (3, null, '', 7, 1, 9223372036854775807);
             select pulso.create_rollup('public.r', $${QUERY}$$)"
        ))
        .await
        .unwrap();
    (db, client)
}

async fn check(client: &Client, statements: &[&str]) {
    for statement in statements {
        client.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        assert_equal(client, "public.r", QUERY, &format!("after {statement}")).await;
        if client.query_one("select pg_current_xact_id_if_assigned() is null", &[]).await.unwrap().get::<_, bool>(0) {
            client.execute("select pulso.fold('public.r')", &[]).await.unwrap();
            assert_equal(client, "public.r", QUERY, &format!("after {statement} and a fold")).await;
        }
    }
}

#[tokio::test]
async fn columns_and_types_are_those_of_the_query() {
    let (_db, client) = table().await;
    let wanted = client.prepare(QUERY).await.unwrap();
    let got = client.prepare("select * from public.r").await.unwrap();
    let describe = |s: &tokio_postgres::Statement| {
        s.columns().iter().map(|c| (c.name().to_owned(), c.type_().clone())).collect::<Vec<_>>()
    };
    assert_eq!(describe(&got), describe(&wanted));
}

#[tokio::test]
async fn inserts_updates_and_deletes() {
    let (_db, client) = table().await;
    check(
        &client,
        &[
            "insert into t values (10, 1, 'a', 2, 5, 1)",
            "insert into t select i, i % 3, 'n' || i % 2, i * 1.25, i, i from generate_series(100, 400) i",
            "update t set x = x + 1 where id < 200",
            "update t set k = k + 1, name = null where id between 150 and 160",
            "update t set k = null where id = 170",
            "update t set keep = false where id between 200 and 250",
            "update t set keep = true where id between 220 and 230",
            "insert into t values (100, 9, 'z', 1, 1, 1) on conflict (id) do update set k = excluded.k, x = t.x * 2",
            "insert into t values (100, 9, 'z', 1, 1, 1), (501, 9, 'z', 1, 1, 1) on conflict (id) do nothing",
            "merge into t using (values (101, 5), (502, 6)) as m (id, k) on m.id = t.id
               when matched then update set k = m.k when not matched then insert values (m.id, m.k, 'm', 1, 1, 1)",
            "merge into t using (values (102), (103)) as m (id) on m.id = t.id when matched then delete",
            "with gone as (delete from t where id between 300 and 310 returning *) insert into t select id + 1000, k, name, x, i, b, keep from gone",
            "delete from t where id % 7 = 0",
            "delete from t",
        ],
    )
    .await;
    let left: i64 = client.query_one("select count(*) from pulso.r_1_base", &[]).await.unwrap().get(0);
    assert_eq!(left, 0, "groups that have become empty are removed");
}

#[tokio::test]
async fn an_update_that_changes_nothing_writes_nothing() {
    let (_db, client) = table().await;
    client.batch_execute("update t set x = x, name = name").await.unwrap();
    let deltas: i64 = client.query_one("select count(*) from pulso.r_1_delta", &[]).await.unwrap().get(0);
    assert_eq!(deltas, 0);
}

#[tokio::test]
async fn copy_in_both_formats() {
    let (_db, client) = table().await;
    let sink = client.copy_in("copy t (id, k, name, x) from stdin").await.unwrap();
    let mut sink = std::pin::pin!(sink);
    let rows: String = (1000..3000).map(|i| format!("{i}\t{}\tc\t{i}.5\n", i % 5)).collect();
    sink.send(bytes_of(rows)).await.unwrap();
    sink.close().await.unwrap();
    assert_equal(&client, "public.r", QUERY, "after copy").await;
}

fn bytes_of(text: String) -> std::io::Cursor<Vec<u8>> {
    std::io::Cursor::new(text.into_bytes())
}

#[tokio::test]
async fn numeric_extremes() {
    let (_db, client) = table().await;
    check(
        &client,
        &[
            "insert into t values (20, 1, 'a', 'NaN', 1, 1)",
            "insert into t values (21, 1, 'a', 'Infinity', 1, 1), (22, 1, 'a', '-Infinity', 1, 1)",
            "delete from t where id = 20",
            "delete from t where id = 22",
            "delete from t where id = 21",
            "insert into t values (23, 1, 'a', 1e100, 1, 1), (24, 1, 'a', 1e-100, 1, 1), (25, 1, 'a', -0.000000000000000000000000000001, 1, 1)",
            "delete from t where id = 23",
            "insert into t select 1000 + i, 2, 'w', 99999999999999999999999999999999999999, 2147483647, 9223372036854775807 from generate_series(1, 50) i",
            "update t set x = -x, b = -9223372036854775808 where k = 2",
            "delete from t where k = 2",
        ],
    )
    .await;
}

/// A build takes every number for finite first. What it has stored shows when the special ones go again.
#[tokio::test]
async fn builds_over_numbers_that_are_not_finite() {
    let (_db, client) = table().await;
    // In the sums of all, of some, in another group, beside NULLs alone, and outside of the filter.
    for specials in [
        "(30, 1, 'a', 'NaN', 1)",
        "(30, 1, 'a', 'NaN', 1), (31, 1, 'a', 'NaN', 5)",
        "(30, 1, 'a', 'Infinity', 5)",
        "(30, 1, 'a', '-Infinity', 1), (31, 8, 'b', '-Infinity', 1), (32, 8, 'b', 4, 1)",
        "(30, 1, 'a', 'Infinity', 1), (31, 1, 'a', '-Infinity', 1), (32, 2, 'a', 'NaN', 9)",
        "(30, 7, 'c', 'NaN', 5), (31, 7, 'c', null, 5)",
        "(30, 1, 'a', 1, 1), (31, 9, 'n', null, 1)",
    ] {
        let insert = format!("insert into t (id, k, name, x, i) values {specials}");
        let repair = "select pulso.repair('public.r')";
        let statements = [
            &insert,
            repair,
            "delete from t where id = 30",
            repair,
            "delete from t where id > 30",
            "update t set x = -x",
        ];
        check(&client, &statements).await;
        client.batch_execute("alter table t disable trigger user").await.unwrap();
        client.batch_execute(&format!("{insert}; update t set keep = false where id = 30")).await.unwrap();
        client.batch_execute("alter table t enable trigger user").await.unwrap();
        check(&client, &[repair, "update t set keep = true", "delete from t where id >= 30"]).await;
    }
}

#[tokio::test]
async fn truncate_also_by_cascade_and_rolled_back() {
    let (_db, client) = table().await;
    client.batch_execute("create table ref (k int primary key); insert into ref values (1), (2); update t set k = 1; alter table t add foreign key (k) references ref").await.unwrap();
    check(
        &client,
        &[
            "begin; truncate t; rollback",
            "begin; insert into t values (30, 1, 'a', 1, 1, 1)",
            "truncate t",
            "insert into t values (31, 1, 'a', 1, 1, 1)",
            "commit",
            "truncate ref cascade",
            "insert into ref values (1); insert into t values (32, 1, 'a', 1, 1, 1)",
        ],
    )
    .await;
}

#[tokio::test]
async fn cascading_foreign_keys() {
    let (_db, client) = table().await;
    client.batch_execute("create table ref (k int primary key); insert into ref values (1), (2); update t set k = 1; alter table t add constraint fk foreign key (k) references ref on update cascade on delete cascade").await.unwrap();
    check(&client, &["update ref set k = 7 where k = 1", "delete from ref where k = 7"]).await;
}

#[tokio::test]
async fn savepoints_and_own_uncommitted_changes() {
    let (_db, client) = table().await;
    check(
        &client,
        &[
            "begin",
            "savepoint a; insert into t values (40, 4, 'a', 1, 1, 1)",
            "savepoint b; delete from t where id = 1",
            "rollback to b",
            "insert into t values (41, 4, 'a', 1, 1, 1)",
            "rollback to a",
            "insert into t values (42, 4, 'a', 1, 1, 1)",
            "release a",
            "commit",
        ],
    )
    .await;
}

/// The generation lock must outlive the savepoint in which it was taken, or a folder would take later deltas of the
/// same transaction for folded.
#[tokio::test]
async fn a_savepoint_rolled_back_does_not_free_the_generation() {
    let (db, writer) = table().await;
    let folder = db.connect().await;
    writer
        .batch_execute("begin; savepoint a; insert into t values (50, 5, 'a', 1, 1, 1); rollback to a")
        .await
        .unwrap();
    // Something for the folder to do, so that it moves on.
    folder.batch_execute("insert into t values (51, 5, 'a', 1, 1, 1); select pulso.fold()").await.unwrap();
    writer.batch_execute("insert into t values (52, 5, 'a', 1, 1, 1); commit").await.unwrap();
    assert_equal(&folder, "public.r", QUERY, "after the late writer").await;
    folder.batch_execute("select pulso.fold()").await.unwrap();
    assert_equal(&folder, "public.r", QUERY, "after folding the late writer").await;
}

#[tokio::test]
async fn a_transaction_that_folds_and_goes_on_writing_loses_nothing() {
    let (_db, client) = table().await;
    check(
        &client,
        &[
            "begin; insert into t values (60, 6, 'a', 1, 1, 1); select pulso.fold()",
            "insert into t values (61, 6, 'a', 1, 1, 1)",
            "select pulso.fold(); insert into t values (62, 6, 'a', 1, 1, 1)",
            "commit",
            "select pulso.fold()",
        ],
    )
    .await;
}

#[tokio::test]
async fn prepared_transactions_hold_their_generation() {
    let (db, client) = table().await;
    let other = db.connect().await;
    client
        .batch_execute("begin; insert into t values (70, 7, 'a', 1, 1, 1); prepare transaction 'engine_2pc'")
        .await
        .unwrap();
    other.batch_execute("insert into t values (71, 7, 'a', 1, 1, 1); select pulso.fold()").await.unwrap();
    assert_equal(&other, "public.r", QUERY, "while prepared").await;
    client.batch_execute("insert into t values (72, 7, 'a', 1, 1, 1); select pulso.fold()").await.unwrap();
    client.batch_execute("commit prepared 'engine_2pc'").await.unwrap();
    assert_equal(&other, "public.r", QUERY, "after commit prepared").await;
    other.batch_execute("select pulso.fold()").await.unwrap();
    assert_equal(&other, "public.r", QUERY, "after its fold").await;
    client.batch_execute("begin; delete from t; prepare transaction 'engine_2pc'").await.unwrap();
    client.batch_execute("rollback prepared 'engine_2pc'").await.unwrap();
    assert_equal(&other, "public.r", QUERY, "after rollback prepared").await;
}

#[tokio::test]
async fn snapshots_older_than_the_rollup_run_its_query() {
    let db = Db::empty().await;
    let (old, new) = (db.connect().await, db.connect().await);
    new.batch_execute("create extension pulso; create table t (k int, x int); insert into t values (1, 1), (2, 2)")
        .await
        .unwrap();
    let query = "select k, count(*) as n, sum(x) as s from public.t group by k";
    old.batch_execute("begin isolation level repeatable read; select 1").await.unwrap();
    new.batch_execute(&format!(
        "select pulso.create_rollup('public.r', $${query}$$); insert into t values (1, 5); select pulso.fold()"
    ))
    .await
    .unwrap();
    assert_eq!(differences(&old, "public.r", query).await, 0, "in the old snapshot");
    // Its own writes are captured although it cannot see the rollup's row in the catalog.
    old.batch_execute("insert into t values (3, 3)").await.unwrap();
    assert_eq!(differences(&old, "public.r", query).await, 0, "in the old snapshot, after a write");
    old.batch_execute("commit").await.unwrap();
    assert_equal(&new, "public.r", query, "after the old writer").await;
}

#[tokio::test]
async fn a_truncate_that_its_snapshot_cannot_explain_ends_with_40001() {
    let (db, client) = table().await;
    let other = db.connect().await;
    client.batch_execute("begin isolation level repeatable read; select count(*) from t").await.unwrap();
    other.batch_execute("insert into t values (80, 8, 'a', 1, 1, 1)").await.unwrap();
    let error = client.batch_execute("truncate t").await.expect_err("the truncate");
    assert_eq!(error.code().map(|c| c.code()), Some("40001"), "{error:?}");
    client.batch_execute("rollback; begin isolation level repeatable read; truncate t").await.unwrap();
    assert_eq!(differences(&client, "public.r", QUERY).await, 0);
    client.batch_execute("commit").await.unwrap();
    assert_equal(&other, "public.r", QUERY, "after the truncate").await;
}

#[tokio::test]
async fn a_query_without_group_by_has_one_row_always() {
    let (_db, client) = table().await;
    let query = "select count(*) as n, sum(x) as s, avg(i) as a from public.t";
    client.batch_execute(&format!("select pulso.create_rollup('public.whole', $${query}$$)")).await.unwrap();
    for statement in [
        "select 1",
        "delete from t",
        "select pulso.fold()",
        "insert into t values (90, 1, 'a', 2, 2, 2)",
        "select pulso.fold()",
        "truncate t",
    ] {
        client.batch_execute(statement).await.unwrap();
        assert_equal(&client, "public.whole", query, &format!("after {statement}")).await;
    }
}

#[tokio::test]
async fn hostile_names() {
    let db = Db::empty().await;
    let client = db.connect().await;
    let long = "é".repeat(31);
    client
        .batch_execute(&format!(
            r#"create extension pulso;
               create schema "a"";drop table x;--"; create table "a"";drop table x;--"."select" ("group" int, "Ñandú ""x""" numeric);
               create function public.jsonb_numeric(jsonb, text) returns numeric language sql immutable return 0;
               insert into "a"";drop table x;--"."select" values (1, 2);
               select pulso.create_rollup('"a"";drop table x;--"."{long}"', $$select "group", sum("Ñandú ""x""") as "order" from "a"";drop table x;--"."select" group by 1$$);
               insert into "a"";drop table x;--"."select" values (1, 2), (2, 3);
               select pulso.fold()"#
        ))
        .await
        .unwrap();
    let rollup = format!(r#""a"";drop table x;--"."{long}""#);
    assert_equal(
        &client,
        &rollup,
        r#"select "group", sum("Ñandú ""x""") as "order" from "a"";drop table x;--"."select" group by 1"#,
        "with hostile names",
    )
    .await;
    client.batch_execute(&format!("select pulso.drop_rollup('{rollup}')")).await.unwrap();
}

#[tokio::test]
async fn two_schemas_one_table_name_and_a_temporary_shadow() {
    let db = Db::empty().await;
    let client = db.connect().await;
    client
        .batch_execute(
            "create extension pulso; create schema a; create schema b; create table a.t (k int); create table b.t (k int);
             select pulso.create_rollup('a.r', 'select k, count(*) n from a.t group by k');
             select pulso.create_rollup('b.r', 'select k, count(*) n from b.t group by k');
             create temporary table t (k int); create temporary table r (k int);
             set search_path = a, b; insert into a.t values (1), (1); insert into b.t values (2); insert into t values (3);
             select pulso.fold()",
        )
        .await
        .unwrap();
    assert_equal(&client, "a.r", "select k, count(*) n from a.t group by k", "in schema a").await;
    assert_equal(&client, "b.r", "select k, count(*) n from b.t group by k", "in schema b").await;
}

#[tokio::test]
async fn expressions_with_functions_of_the_users() {
    let db = Db::empty().await;
    let client = db.connect().await;
    let query = "select public.bucket(x) as b, sum(public.doubled(x)) as s from public.t group by 1";
    client
        .batch_execute(&format!(
            "create extension pulso; create table t (x int);
             create function bucket(int) returns text language plpgsql immutable as $f$ begin return 'b' || $1 / 10; end $f$;
             create function doubled(int) returns bigint language sql immutable as 'select $1 * 2::bigint';
             select pulso.create_rollup('public.r', $${query}$$)"
        ))
        .await
        .unwrap();
    for statement in [
        "insert into t select generate_series(1, 50)",
        "update t set x = x + 10 where x % 2 = 0",
        "begin; delete from t where x < 20; rollback",
        "delete from t where x < 20",
        "select pulso.fold()",
    ] {
        client.batch_execute(statement).await.unwrap();
        assert_equal(&client, "public.r", query, &format!("after {statement}")).await;
    }
}

/// A key too long for an index entry cannot be folded: the view runs its query from then on, and says why.
#[tokio::test]
async fn a_delta_that_cannot_be_folded_turns_the_view_into_its_query() {
    let (_db, client) = table().await;
    client
        .batch_execute(
            "insert into t select 500, 1, string_agg(md5(i::text), ''), 1, 1, 1 from generate_series(1, 500) i",
        )
        .await
        .unwrap();
    client.execute("select pulso.fold('public.r')", &[]).await.unwrap();
    let row = client.query_one("select live, reason from pulso.rollups", &[]).await.unwrap();
    assert!(!row.get::<_, bool>(0));
    assert!(row.get::<_, &str>(1).contains("index row"), "{:?}", row.get::<_, &str>(1));
    client.batch_execute("insert into t values (501, 1, 'a', 1, 1, 1); select pulso.fold()").await.unwrap();
    assert_equal(&client, "public.r", QUERY, "by the query").await;
}

/// Applications look at the fields of an error, such as the constraint's name: with the library loaded they are as ever.
#[tokio::test]
async fn errors_that_are_not_ours_are_whole() {
    let db = Db::empty().await;
    let mut client = db.connect().await;
    client
        .batch_execute(
            "create extension pulso;
             create table parent (id int primary key);
             create table child (id int constraint child_parent references parent, x int constraint child_x check (x > 0));
             select pulso.create_rollup('public.r', 'select x, count(*) as n from public.child group by 1')",
        )
        .await
        .unwrap();
    let fields = |error: &tokio_postgres::Error| {
        let error = error.as_db_error().unwrap();
        (
            error.code().code().to_owned(),
            error.constraint().unwrap_or("none").to_owned(),
            error.table().unwrap_or("none").to_owned(),
        )
    };
    let foreign = ("23503".to_owned(), "child_parent".to_owned(), "child".to_owned());
    let insert = client.batch_execute("insert into child values (1, 1)").await.unwrap_err();
    assert_eq!(fields(&insert), foreign);
    for (row, expected) in
        [("2\t1\n", foreign.clone()), ("2\t-1\n", ("23514".to_owned(), "child_x".to_owned(), "child".to_owned()))]
    {
        let transaction = client.transaction().await.unwrap();
        let sink = transaction.copy_in("copy child from stdin").await.unwrap();
        let mut sink = std::pin::pin!(sink);
        let sent = sink.send(bytes::Bytes::from_static(row.as_bytes())).await;
        assert_eq!(fields(&sent.and(sink.finish().await.map(drop)).unwrap_err()), expected);
    }
    // A statement that an error has left is over: row by row or not, what comes after it is counted once.
    client
        .batch_execute("do $$ begin insert into child values (3, 3); exception when foreign_key_violation then insert into child values (null, 3); end $$")
        .await
        .unwrap();
    assert_equal(&client, "public.r", "select x, count(*) as n from public.child group by 1", "after errors").await;
}
