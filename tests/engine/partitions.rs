//! Partitioned tables: whichever way a row comes, goes or moves, and whatever partitions come and go, it counts once.

use crate::common::{Db, long};
use crate::{assert_equal, differences};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio_postgres::Client;

const QUERY: &str = "select store, kind, count(*) as n, sum(x) as total, avg(q) as mean from public.p group by 1, 2";
const WHOLE: &str = "select count(*) as n, sum(x * q) as value, max(x) as most, count(distinct store) as stores from public.p where kind <> 'b'";

/// A tree of two levels. Each partition has its columns in an order of its own, and some have had others.
const TREE: &str = "
  create extension pulso;
  create table p (id int not null, store int, day date not null, kind text, x numeric, q int) partition by range (day);
  create table p_1 (gone text, q int, x numeric, day date not null, id int not null, kind text, store int);
  alter table p_1 drop column gone;
  alter table p attach partition p_1 for values from ('2026-01-01') to ('2026-02-01');
  create table p_2 partition of p for values from ('2026-02-01') to ('2026-03-01') partition by list (store);
  create table p_2_1 (store int, kind text, q int, day date not null, x numeric, id int not null);
  alter table p_2 attach partition p_2_1 for values in (1, 2, null);
  create table p_2_rest partition of p_2 default;
  create table p_rest partition of p default;
  insert into p select i, i % 5, date '2026-01-01' + i % 80, chr(97 + i % 3), i * 0.25, i from generate_series(1, 400) i";

async fn tree() -> (Db, Client) {
    let db = Db::empty().await;
    let client = db.connect().await;
    client.batch_execute(TREE).await.unwrap();
    for (name, query) in [("public.r", QUERY), ("public.w", WHOLE)] {
        client.execute("select pulso.create_rollup($1, $2)", &[&name, &query]).await.unwrap();
    }
    check(&client, "at first").await;
    (db, client)
}

async fn check(client: &Client, when: &str) {
    for (name, query) in [("public.r", QUERY), ("public.w", WHOLE)] {
        assert_equal(client, name, query, when).await;
    }
}

async fn run(client: &Client, statement: &str) {
    client.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    check(client, statement).await;
    assert!(all_live(client).await, "a rollup is not live after {statement}");
}

async fn all_live(client: &Client) -> bool {
    client.query_one("select bool_and(live) from pulso.rollups", &[]).await.unwrap().get(0)
}

async fn refused(client: &Client, statement: &str, state: &str, part: &str) {
    let error = client.batch_execute(statement).await.expect_err(statement);
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), state, "{statement}: {error:?}");
    assert!(error.message().contains(part), "{statement}: {}", error.message());
    assert!(error.hint().is_some(), "{statement}: {error:?}");
}

#[tokio::test]
async fn every_statement_through_the_parent_and_at_each_partition() {
    let (_db, client) = tree().await;
    let modes = client.query("select distinct capture_mode from pulso.rollups", &[]).await.unwrap();
    assert_eq!(modes.iter().map(|row| row.get(0)).collect::<Vec<&str>>(), ["row"]);
    for statement in [
        "insert into p values (1001, 1, '2026-01-05', 'a', 1, 1), (1002, 9, '2026-02-05', null, 2, 2), (1003, 1, '2027-01-01', 'b', null, 3)",
        "insert into p_1 (id, store, day, kind, x, q) values (1004, 1, '2026-01-06', 'a', 5, 7)",
        "insert into p_2 values (1005, 1, '2026-02-07', 'c', 5, 8), (1006, 7, '2026-02-07', 'c', 5, 8)",
        "insert into p_2_1 (id, store, day, kind, x, q) values (1007, null, '2026-02-08', 'a', 5, 9)",
        "insert into p_rest values (1008, 1, '2027-02-08', 'a', 5, 9)",
        "update p set x = x + 1 where id % 7 = 0",
        "update p_1 set q = q - 1, kind = 'z' where id % 5 = 0",
        "update p_2 set x = -x",
        "update p_2_1 set kind = kind",
        // Moves between partitions, of two levels.
        "update p set day = day + 31 where id % 11 = 0",
        "update p set day = day - 400, store = store + 1 where id % 13 = 0",
        "update p_2 set store = store + 1 where id % 2 = 0",
        "with gone as (delete from p_1 where id % 9 = 0 returning *) insert into p select id, store, date '2026-02-10', kind, x, q from gone",
        "merge into p using (select 5 as store, date '2026-01-09' as day) m on p.store = m.store - 1 and p.day = m.day
           when matched then update set x = 100, day = '2026-02-20' when not matched then insert values (1, 5, m.day, 'a', 1, 1)",
        // Inserts before it updates: what PostgreSQL 15.18 and 18.6 show statement triggers of that is wrong.
        "set enable_hashjoin = off; set enable_mergejoin = off;
         merge into p using (values (90001, date '2026-01-09'), (6, '2026-01-07'), (90002, '2026-02-09'), (7, '2026-01-08')) m (id, day) on p.id = m.id and p.day = m.day
           when matched then update set x = 1000, kind = 'm' when not matched then insert values (m.id, 1, m.day, 'i', 4, 4);
         reset enable_hashjoin; reset enable_mergejoin",
        "merge into p_2 t using (select 1 as store) m on t.store = m.store when matched and t.id % 2 = 0 then delete when matched then update set q = 0",
        "delete from p where id % 17 = 0",
        "delete from p_2_rest where id % 3 = 0",
        "begin; savepoint s; delete from p_1; rollback to s; update p_2_1 set x = 3; commit",
        "select pulso.fold()",
        "begin; insert into p_1 (id, day, x) values (1, '2026-01-01', 9); truncate p_1; insert into p_1 (id, day, x) values (2, '2026-01-01', 9); commit",
        "truncate p_2_1",
        "begin; truncate p_2; rollback",
        "truncate p_2",
        "insert into p_2 select i, i, '2026-02-01', 'a', i, i from generate_series(1, 9) i",
        "truncate p",
        "insert into p values (1, 1, '2026-01-05', 'a', 1, 1)",
    ] {
        run(&client, statement).await;
    }
    for copy in ["copy p (id, store, day, kind, x, q) from stdin", "copy p_1 (q, id, day, store, kind, x) from stdin"] {
        let sink = client.copy_in(copy).await.unwrap();
        let row =
            if copy.starts_with("copy p ") { "7\t1\t2026-02-03\ta\t1.5\t2\n" } else { "7\t1\t2026-01-03\t1\ta\t1.5\n" };
        futures_util::pin_mut!(sink);
        futures_util::SinkExt::send(&mut sink, bytes::Bytes::from(row)).await.unwrap();
        assert_eq!(sink.finish().await.unwrap(), 1);
        check(&client, copy).await;
    }
    client.batch_execute("select pulso.drop_rollup('public.r'); select pulso.drop_rollup('public.w')").await.unwrap();
    let left: i64 =
        client.query_one("select count(*) from pg_trigger where tgname ^@ 'pulso'", &[]).await.unwrap().get(0);
    assert_eq!(left, 0, "triggers are left");
}

#[tokio::test]
async fn partitions_that_come_and_go_are_counted_and_taken_away() {
    let (_db, client) = tree().await;
    for statement in [
        "create table p_3 partition of p for values from ('2026-04-01') to ('2026-05-01')",
        "insert into p_3 values (2001, 1, '2026-04-02', 'a', 1, 1); insert into p values (2002, 1, '2026-04-02', 'a', 1, 1)",
        // One with rows, columns elsewhere, and triggers of no rollup.
        "create table p_5 (x numeric, q int, id int not null, day date not null, store int, kind text);
         insert into p_5 select i, i, i, '2026-06-01', i % 3, 'a' from generate_series(1, 50) i",
        "alter table p attach partition p_5 for values from ('2026-06-01') to ('2026-07-01')",
        "insert into p_5 (id, day, x) values (1, '2026-06-02', 4); update p set x = x + 1 where day >= '2026-06-01'",
        "alter table p detach partition p_5",
        "insert into p_5 (id, day, x) values (1, '2026-06-02', 4); delete from p_5 where store = 1",
        "begin; alter table p attach partition p_5 for values from ('2026-06-01') to ('2026-07-01'); delete from p_5 where store = 2; rollback",
        "begin; alter table p attach partition p_5 for values from ('2026-06-01') to ('2026-07-01'); delete from p_5 where store = 2; insert into p values (1, 1, '2026-06-03', 'c', 8, 8); commit",
        // A tree of its own, with what it has and with one in it that comes later.
        "alter table p detach partition p_2; create table p_2_9 partition of p_2 for values in (9); insert into p_2 values (3, 9, '2026-02-02', 'a', 3, 3)",
        "alter table p attach partition p_2 for values from ('2026-02-01') to ('2026-03-01')",
        "alter table p_2 detach partition p_2_9; drop table p_2_9",
        "truncate p_5; alter table p detach partition p_5; drop table p_5",
        "select pulso.fold()",
        "create table other (like p) partition by range (day); create table other_1 partition of other default; insert into other values (1, 1, '2026-01-01', 'a', 1, 1)",
    ] {
        run(&client, statement).await;
    }
    let recorded: bool = client
        .query_one("select bool_and(not pulso.has_other_partitions(source, partitions)) from pulso.rollup", &[])
        .await
        .unwrap()
        .get(0);
    assert!(recorded);
    let detached: i64 = client
        .query_one("select count(*) from pg_trigger t join pg_class c on c.oid = t.tgrelid where tgname ^@ 'pulso' and not c.relispartition and c.relkind = 'r'", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(detached, 0, "a detached partition has kept its triggers");
}

#[tokio::test]
async fn what_could_not_be_counted_is_refused_or_said() {
    let (_db, client) = tree().await;
    client
        .batch_execute("create table alone (id int, day date, x numeric); create table free (id int); select pulso.create_rollup('public.a', 'select day, count(*) as n from public.alone group by 1')")
        .await
        .unwrap();
    refused(&client, "alter table p detach partition p_1 concurrently", "0A000", "public.p cannot be detached").await;
    refused(&client, "alter table p_2 detach partition p_2_1 concurrently", "0A000", "public.p cannot").await;
    refused(&client, "begin isolation level repeatable read; create table p_4 partition of p for values from ('2026-05-01') to ('2026-06-01')", "25001", "partitions").await;
    client.batch_execute("rollback").await.unwrap();
    refused(&client, "create foreign data wrapper far; create server far foreign data wrapper far; create foreign table p_4 partition of p for values from ('2026-05-01') to ('2026-06-01') server far", "0A000", "foreign").await;
    client.batch_execute("rollback").await.unwrap();
    refused(
        &client,
        "create unlogged table p_4 partition of p for values from ('2026-05-01') to ('2026-06-01')",
        "0A000",
        "unlogged",
    )
    .await;
    refused(&client, "create table alones (id int, day date, x numeric) partition by range (day); alter table alones attach partition alone default", "0A000", "cannot become a partition").await;
    client.batch_execute("rollback").await.unwrap();
    refused(&client, "create table heir () inherits (alone)", "0A000", "inheritance").await;
    refused(&client, "alter table alone set unlogged", "0A000", "unlogged").await;
    refused(
        &client,
        "select pulso.create_rollup('public.x', 'select store, count(*) as n from public.p_1 group by 1')",
        "0A000",
        "partition public.p_1",
    )
    .await;
    check(&client, "after refusals").await;
    assert!(all_live(&client).await);

    // Dropped with its rows: the views are their queries, and say why, until they are built anew.
    let reason = "select reason from pulso.rollups where name in ('r', 'w', 'public.r', 'public.w') and not live";
    for drop in
        ["drop table p_rest", "create schema away; alter table p_2_rest set schema away; drop schema away cascade"]
    {
        client.batch_execute(drop).await.unwrap();
        check(&client, drop).await;
        let rows = client.query(reason, &[]).await.unwrap();
        assert_eq!(rows.len(), 2, "after {drop}");
        assert!(rows.iter().all(|row| row.get::<_, String>(0).contains("partition was dropped")));
        client.batch_execute("select pulso.fold(); insert into p values (1, 1, '2026-01-05', 'a', 1, 1); select pulso.repair('public.r'); select pulso.repair('public.w')").await.unwrap();
        run(&client, "insert into p_1 (id, day, x) values (1, '2026-01-01', 9)").await;
    }
    run(&client, "select pulso.fold()").await;
}

#[tokio::test]
async fn without_event_triggers_a_fold_notices() {
    let (_db, client) = tree().await;
    client
        .batch_execute(
            "alter event trigger pulso_tables_changed disable;
             create table p_5 (like p); insert into p_5 values (1, 1, '2026-06-01', 'a', 1, 1);
             alter table p attach partition p_5 for values from ('2026-06-01') to ('2026-07-01');
             alter event trigger pulso_tables_changed enable always",
        )
        .await
        .unwrap();
    client.batch_execute("select pulso.fold()").await.unwrap();
    check(&client, "once a fold has noticed").await;
    assert!(!all_live(&client).await);
    for name in ["public.r", "public.w"] {
        client.execute("select pulso.repair($1)", &[&name]).await.unwrap();
    }
    run(&client, "insert into p_5 values (2, 1, '2026-06-01', 'a', 1, 1); update p_5 set x = 7").await;
}

const JOINED: &str = "select h.shop, l.product, count(*) as n, sum(l.qty * l.price) as total
  from public.line l join public.head h on h.id = l.head where not h.void group by 1, 2";

/// Captured by statement or row by row, a statement leaves one delta a group (and event, where each partition has its own), also where it fails half way, a trigger goes on
/// from a part that failed, or rows spill to disk.
#[tokio::test]
async fn a_statement_is_netted_whole() {
    let (_db, client) = tree().await;
    let pending = "select sum(pending_deltas)::bigint from pulso.rollups where name = 'r'";
    client
        .batch_execute(
            "create function echo() returns trigger language plpgsql as $$
             begin
               insert into p_2_1 (id, store, day, kind, x, q) values (new.id + 50000, 1, '2026-02-10', 'e', 1, 1);
               begin
                 update p set x = x + 5 where kind = 'e';
                 insert into p values (0, 0, '2026-02-10', 'e', 0, 1 / (new.q - 3)), (0, 0, '2026-02-10', 'e', 0, 0);
               exception when division_by_zero then
                 delete from p where id = new.id + 50000;
               end;
               return null;
             end $$;
             create trigger echo after insert on p_1 for each row when (new.kind = 'echo') execute function echo();
             set work_mem = '64kB'",
        )
        .await
        .unwrap();
    for (statement, deltas) in [
        ("insert into p select i, 1, '2026-01-05', 'net', 1, 1 from generate_series(10001, 40000) i", Some(1)),
        ("update p set x = x + 1 where kind = 'net'", Some(1)),
        ("update p set q = q where kind = 'net'", Some(0)),
        ("update p set day = day + 30, x = 3 where kind = 'net'", Some(2)),
        ("insert into p select i, 1, '2026-01-05', 'echo', 1, i % 5 from generate_series(60001, 60010) i", None),
        (
            "do $$ begin insert into p select i, 1, '2026-01-05', 'gone', 1 / (i - 5), 1 from generate_series(1, 9) i; exception when division_by_zero then null; end $$",
            Some(0),
        ),
        ("delete from p where kind in ('net', 'echo', 'e')", None),
    ] {
        // One transaction: the folder sees none of it before it has been looked at.
        client.batch_execute("select pulso.fold('public.r')").await.unwrap();
        client.batch_execute(&format!("begin; {statement}")).await.unwrap();
        let left: Option<i64> = client.query_one(pending, &[]).await.unwrap().get(0);
        assert!(deltas.is_none_or(|most| left <= Some(most)), "{statement} leaves {left:?}");
        check(&client, statement).await;
        client.batch_execute("commit").await.unwrap();
        check(&client, statement).await;
    }
}

#[tokio::test]
async fn lines_of_a_join_may_be_partitioned() {
    let db = Db::empty().await;
    let client = db.connect().await;
    client
        .batch_execute(&format!(
            "create extension pulso;
             create table head (id int primary key, shop int, void boolean not null default false);
             create table line (head int not null references head on delete cascade, day date not null, product int, qty int, price numeric) partition by range (day);
             create index on line (head);
             create table line_1 (price numeric, product int, day date not null, head int not null, qty int);
             alter table line attach partition line_1 for values from ('2026-01-01') to ('2026-02-01');
             create table line_2 partition of line for values from ('2026-02-01') to ('2026-03-01');
             insert into head select i, i % 3 from generate_series(1, 30) i;
             insert into line select 1 + i % 30, date '2026-01-01' + i % 50, i % 4, i, 0.5 from generate_series(1, 200) i;
             select pulso.create_rollup('public.j', $${JOINED}$$)"
        ))
        .await
        .unwrap();
    for statement in [
        "insert into head values (101, 1); insert into line values (101, '2026-01-02', 1, 2, 3), (101, '2026-02-02', 1, 2, 3)",
        "insert into line_1 (head, day, product, qty, price) values (101, '2026-01-03', 2, 2, 2)",
        "update head set void = true where id % 4 = 1",
        "update head set shop = 9 where id % 5 = 1",
        "update line set day = day + 20 where head % 3 = 0 and day < '2026-02-01'",
        "update line_1 set qty = qty + 1",
        "begin; delete from line_2 where head = 3; update head set void = not void where id = 3; commit",
        "delete from head where id = 7",
        "with h as (update head set shop = shop + 1 returning id) update line_1 set product = 3 from h where h.id = head",
        // Both tables in one statement, whichever is written first, and through the whole or at a partition.
        "with l as (insert into line values (5, '2026-01-04', 1, 7, 1), (5, '2026-02-04', 1, 7, 1) returning head) update head set shop = shop + 1 where id in (select head from l)",
        "with h as (update head set shop = shop + 1 where id = 5 returning id) insert into line_2 (head, day, product, qty, price) select id, '2026-02-05', 2, 3, 4 from h",
        "with h as (update head set shop = shop + 1 where id = 5), l as (delete from line_1 where head = 5 and qty = 7) select",
        "with l as (update line_1 set qty = 8 where head = -1) update head set shop = shop + 1 where id = 6",
        "update head set shop = shop + 1 where id = 6; update line set qty = qty + 1 where head = 6",
        "create table line_3 partition of line for values from ('2026-03-01') to ('2026-04-01')",
        "insert into line_3 values (101, '2026-03-02', 5, 1, 1); update head set shop = 4 where id = 101",
        "alter table line detach partition line_1",
        "update head set shop = 5; select pulso.fold()",
        "alter table line attach partition line_1 for values from ('2026-01-01') to ('2026-02-01')",
        "truncate line_2",
        "truncate head cascade",
    ] {
        client.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        assert_equal(&client, "public.j", JOINED, statement).await;
    }
    refused(
        &client,
        "create table big (id int primary key, k int) partition by range (id); create table big_1 partition of big default;
         create table small (big int references big); select pulso.create_rollup('public.x', 'select b.k, count(*) as n from public.small s join public.big b on b.id = s.big group by 1')",
        "0A000",
        "it is partitioned",
    )
    .await;
}

#[tokio::test]
async fn a_dump_brings_partitions_along() {
    let (db, client) = tree().await;
    client.batch_execute("insert into p_1 (id, day, x) values (1, '2026-01-01', 9)").await.unwrap();
    let cluster = crate::common::cluster().await;
    let target = Db::empty().await;
    let run_program = |program: &str, args: &[&str]| {
        let output = std::process::Command::new(cluster.bindir().join(program)).args(args).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let scratch = crate::common::Scratch::new();
    let file = scratch.0.join("dump").to_str().unwrap().to_owned();
    run_program("pg_dump", &["-Fc", "-f", &file, "-d", db.url()]);
    run_program("pg_restore", &["--exit-on-error", "-d", target.url(), &file]);
    let client = target.connect().await;
    for statement in [
        "select 1",
        "update p set day = day + 31, x = x + 1; delete from p_2_1 where id % 3 = 0",
        "alter table p detach partition p_1; create table p_3 partition of p for values from ('2026-01-01') to ('2026-02-01')",
        "insert into p_3 select * from p where day < '2026-01-01' or day >= '2026-03-01' limit 0; select pulso.fold()",
        "insert into p_3 values (1, 1, '2026-01-05', 'a', 1, 1)",
    ] {
        run(&client, statement).await;
    }
}

/// Attaching, detaching, dropping, building and folding at random moments, beside two writers.
async fn comings_and_goings(seed: u64, steps: u32) {
    let (db, client) = tree().await;
    let writers: Vec<_> = (0..2u64)
        .map(|number| {
            let url = db.url().to_owned();
            tokio::spawn(async move {
                let client = pulso::db::connect(&url).await.unwrap();
                let mut rng = ChaCha8Rng::seed_from_u64(seed * 2 + number);
                let mut done = 0;
                for step in 0..steps * 12 {
                    let (month, day) = (rng.random_range(1..9), rng.random_range(1..28));
                    let statement = match rng.random_range(0..6) {
                        0..3 => format!(
                            "insert into p values ({step}, {}, '2026-{month:02}-{day:02}', 'a', {step}, 1)",
                            step % 5
                        ),
                        3 => format!("update p set day = '2026-{month:02}-{day:02}' where id = {}", step / 2),
                        4 => format!("update m_{month} set x = x + 1 where id % 3 = 0"),
                        _ => format!("delete from m_{month} where id = {}", step / 3),
                    };
                    match client.batch_execute(&statement).await {
                        Ok(()) => done += 1,
                        // Detached or dropped meanwhile; no partition for the row; a deadlock with DDL; a row that
                        // another has moved, which Postgres does not follow.
                        Err(error) => {
                            let code = error.code().map(|code| code.code().to_owned()).unwrap_or_default();
                            assert!(
                                ["42P01", "23514", "40P01", "55P03", "40001"].contains(&code.as_str()),
                                "{statement}: {error:?}"
                            );
                        }
                    }
                }
                done
            })
        })
        .collect();
    let keeper = {
        let client = db.connect().await;
        tokio::spawn(async move {
            let mut done = 0;
            for round in 0..steps {
                let name = if round % 2 == 0 { "public.r" } else { "public.w" };
                match client.execute("select pulso.repair($1)", &[&name]).await {
                    Ok(_) => done += 1,
                    Err(error) => assert_eq!(error.code().map(|code| code.code()), Some("40P01"), "repair: {error:?}"),
                }
            }
            done
        })
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    client.batch_execute("set lock_timeout = '5s'").await.unwrap();
    for _ in 0..steps {
        let month = rng.random_range(3..9);
        let range = format!("for values from ('2026-{month:02}-01') to ('2026-{:02}-01')", month + 1);
        let statement = match rng.random_range(0..8) {
            0 | 1 => format!(
                "create table m_{month} (store int, day date not null, x numeric, kind text, q int, id int not null); insert into m_{month} select 1, '2026-{month:02}-02', i, 'b', i, i from generate_series(1, 20) i; alter table p attach partition m_{month} {range}"
            ),
            2 => format!("alter table p attach partition m_{month} {range}"),
            3 | 4 => format!("alter table p detach partition m_{month}"),
            5 => "select pulso.fold()".to_owned(),
            6 => format!("drop table m_{month}"),
            _ => (*["select pulso.repair('public.r')", "select pulso.repair('public.w')"].choose(&mut rng).unwrap())
                .to_owned(),
        };
        // Not there, there already, or rows of the default partition would have to move: nothing happens then.
        let _ = client.batch_execute(&statement).await;
        for (name, query) in [("public.r", QUERY), ("public.w", WHOLE)] {
            assert_eq!(differences(&client, name, query).await, 0, "{name}, seed {seed}, after {statement}");
        }
    }
    let mut done = 0;
    for writer in writers {
        done += writer.await.unwrap();
    }
    assert!(keeper.await.unwrap() > steps / 2, "hardly any repair came to its end");
    assert!(done > steps, "writers did next to nothing: {done}");
    check(&client, &format!("at the end of seed {seed}")).await;
    for name in ["public.r", "public.w"] {
        client.execute("select pulso.repair($1)", &[&name]).await.unwrap();
    }
    run(&client, "select pulso.fold()").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_come_and_go_beside_writers() {
    let first = rand::rng().random_range(0..1_000_000);
    println!("seed {first}");
    comings_and_goings(first, 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_come_and_go_beside_writers_for_long() {
    if long() {
        for seed in 0..40 {
            comings_and_goings(seed, 100).await;
        }
    }
}
