//! Partitions made ahead of time, beside whoever writes.

use crate::common::Db;
use crate::{json, pulso, text};
use serde_json::Value;
use std::process::Command;
use tokio_postgres::Client;

/// Months by the clock of Caracas with a default, weeks of dates, and lengths that nobody can go by. Rollups read them all.
const TABLES: &str = "
  insert into public.stores (id, name) values ('00000000-0000-4000-8000-000000000001', 'A');
  create table public.visits (
    id bigint generated always as identity, store_id uuid references public.stores, at timestamptz not null,
    amount numeric(12,2), primary key (id, at)
  ) partition by range (at);
  create index on public.visits (store_id, at);
  create table public.weeks (at date not null, x int) partition by range (at);
  create table public.odd (at timestamp not null, x int) partition by range (at);
  create table public.listed (at int not null, x int) partition by range (at);
  do $$
  declare month timestamp := date_trunc('month', now() at time zone 'America/Caracas');
  begin
    for n in -2..0 loop
      execute format('create table public.visits_%s partition of public.visits for values from (%L) to (%L)', n + 3,
        (month + n * interval '1 month') at time zone 'America/Caracas', (month + (n + 1) * interval '1 month') at time zone 'America/Caracas');
    end loop;
    execute format('create table public.weeks_0 partition of public.weeks for values from (minvalue) to (%L)', current_date - 6);
    execute format('create table public.weeks_1 partition of public.weeks for values from (%L) to (%L)', current_date - 6, current_date + 1);
    execute format('create table public.odd_1 partition of public.odd for values from (%L) to (%L)', current_date - 9, current_date - 5);
    execute format('create table public.odd_2 partition of public.odd for values from (%L) to (%L)', current_date - 5, current_date - 2);
  end $$;
  create table public.visits_rest partition of public.visits default;
  select pulso.create_rollup('analytics.visits_daily', 'select store_id, date_trunc(''day'', at at time zone ''UTC'') as day, sum(amount) as amount, count(*) as n from public.visits group by 1, 2');
  select pulso.create_rollup('analytics.weeks_sum', 'select at, sum(x) as x from public.weeks group by 1');
  select pulso.create_rollup('analytics.odd_sum', 'select at, sum(x) as x from public.odd group by 1');
  select pulso.create_rollup('analytics.listed_sum', 'select at, sum(x) as x from public.listed group by 1')";

/// The doctor's findings of this check, as `severity object: finding`.
fn doctor(db: &Db) -> Vec<String> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_pulso")).args(["doctor", "--json"]).env("DATABASE_URL", db.url()).output();
    let report: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    let of = |one: &Value, what: &str| one[what].as_str().unwrap().to_owned();
    let findings = report["findings"].as_array().unwrap().iter().filter(|one| one["check"] == "partitions");
    findings.map(|one| format!("{} {}: {}", of(one, "severity"), of(one, "object"), of(one, "finding"))).collect()
}

async fn ends(sql: &Client, table: &str, clock: &str) -> String {
    text(
        sql,
        &format!(
            "select (ends_at at time zone '{clock}')::text from pulso.partitioned() where source = '{table}'::regclass"
        ),
    )
    .await
}

#[tokio::test]
async fn partitions_are_made_ahead_and_nobody_waits() {
    let db = Db::migrated().await;
    let sql = db.connect().await;
    sql.batch_execute(TABLES).await.unwrap();
    let said = doctor(&db);
    assert!(said.iter().any(|one| one.starts_with("warning table weeks: its last partition ends")), "{said:?}");
    assert!(
        said.iter().any(
            |one| one.starts_with("wrong table odd: its last partition ended") && one.contains("not of one length")
        ),
        "{said:?}"
    );

    // Three sessions: one that wrote and has not ended, the job that has made partitions and has not ended, and a till.
    let (mut writer, mut job, till) = (db.connect().await, db.connect().await, db.connect().await);
    let insert = "insert into public.visits (store_id, at, amount) values ('00000000-0000-4000-8000-000000000001', now(), 1); insert into public.weeks values (current_date, 1)";
    let writer = writer.transaction().await.unwrap();
    writer.batch_execute(insert).await.unwrap();
    let job = job.transaction().await.unwrap();
    let made: i32 = job.query_one("select pulso.make_partitions()", &[]).await.unwrap().get(0);
    // Four weeks, and a month where this one ends within them.
    assert!((4..=5).contains(&made), "{made}");
    till.batch_execute(&format!("set lock_timeout = '100ms'; {insert}")).await.unwrap();
    job.commit().await.unwrap();
    writer.commit().await.unwrap();

    let again = json(&pulso(&db, &["job", "run", "make_partitions", "--json"]));
    assert_eq!(again["outcome"], "done");
    let month = "select (date_trunc('month', (now() + interval '28 days') at time zone 'America/Caracas') + interval '1 month')::text";
    assert_eq!(ends(&sql, "visits", "America/Caracas").await, text(&sql, month).await);
    assert_eq!(ends(&sql, "weeks", "UTC").await, text(&sql, "select (current_date + 1 + 28)::timestamp::text").await);
    assert_eq!(doctor(&db).len(), 1, "of odd alone: {:?}", doctor(&db));
    // What is sold there is counted there, and the new ones have what the others have.
    sql.batch_execute(
        &insert.replace("now()", "now() + interval '27 days'").replace("current_date", "current_date + 27"),
    )
    .await
    .unwrap();
    assert_eq!(text(&sql, "select count(*)::text from only public.visits_rest").await, "0");
    for rollup in ["visits_daily", "weeks_sum"] {
        assert_eq!(text(&sql, &format!("select pulso.verify('analytics.{rollup}')::text")).await, "0");
        let rows = format!(
            "select (sum(x) = 3)::text from (select {} as x from analytics.{rollup}) r",
            if rollup == "weeks_sum" { "x" } else { "n" }
        );
        assert_eq!(text(&sql, &rows).await, "true", "{rollup}");
    }
    let alike = "select count(distinct (select count(*) from pg_index i where i.indrelid = c.inhrelid))::text || ' ' ||
                        count(distinct (select count(*) from pg_constraint k where k.conrelid = c.inhrelid and k.contype in ('f', 'p')))
                   from pg_inherits c where c.inhparent = 'public.visits'::regclass";
    assert_eq!(text(&sql, alike).await, "1 1");
}

#[tokio::test]
async fn what_stands_in_the_way_of_a_partition_is_said_and_stops_no_other_table() {
    let db = Db::migrated().await;
    let sql = db.connect().await;
    sql.batch_execute(TABLES).await.unwrap();
    // A table that somebody has locked is left to the next run; the others get theirs.
    let mut busy = db.connect().await;
    let lock = busy.transaction().await.unwrap();
    lock.batch_execute("lock table public.visits in access exclusive mode").await.unwrap();
    let before = text(&sql, "select count(*)::text from pg_inherits where inhparent = 'public.weeks'::regclass").await;
    let looked = std::time::Instant::now();
    let blocked = sql.query_one("select pulso.make_partitions()", &[]).await;
    assert!(looked.elapsed() < std::time::Duration::from_secs(5));
    lock.rollback().await.unwrap();
    assert_eq!(blocked.unwrap().get::<_, i32>(0), 4);
    let after = text(&sql, "select count(*)::text from pg_inherits where inhparent = 'public.weeks'::regclass").await;
    assert_ne!(before, after);

    // Rows of the future in the default partition: the months before theirs are made, theirs is not.
    sql.batch_execute(
        "insert into public.visits (at, amount) values (date_trunc('month', now()) + interval '75 days', 1)",
    )
    .await
    .unwrap();
    assert!(sql.query_one("select pulso.make_partitions('200 days')", &[]).await.unwrap().get::<_, i32>(0) > 1);
    let reason = "select reason from pulso.partitioned() where source = 'public.visits'::regclass";
    assert_eq!(text(&sql, reason).await, "its default partition public.visits_rest has rows of the next one's range");
    let said = doctor(&db);
    assert!(said.iter().any(|one| one.starts_with("warning table visits_rest: rows of visits")), "{said:?}");
    assert_eq!(text(&sql, "select pulso.verify('analytics.visits_daily')::text").await, "0");
    // The cure, as the doctor has it.
    sql.batch_execute(
        "do $$
         declare low timestamptz; high timestamptz;
         begin
           select ends_at, ends_at + step into low, high from pulso.partitioned() where source = 'public.visits'::regclass;
           create table public.visits_moved (like public.visits including all excluding identity);
           with gone as (delete from public.visits_rest where at >= low and at < high returning *)
           insert into public.visits_moved select * from gone;
           execute format('alter table public.visits attach partition public.visits_moved for values from (%L) to (%L)', low, high);
         end $$",
    )
    .await
    .unwrap();
    assert_eq!(
        text(&sql, "select coalesce(reason, 'none') from pulso.partitioned() where source = 'public.visits'::regclass")
            .await,
        "none"
    );
    assert!(sql.query_one("select pulso.make_partitions('200 days')", &[]).await.unwrap().get::<_, i32>(0) > 1);
    assert_eq!(text(&sql, "select pulso.verify('analytics.visits_daily')::text").await, "0");
}
