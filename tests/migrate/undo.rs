//! Each pack leaves nothing behind when it is undone.

use crate::common::Db;
use crate::{SALES, assert_same, one, pulso, schema, stderr, stdout, until};
use pulso::migrate::{self, Tier};

/// All but the hypertables, which tests/migrate/hypertables.rs undoes.
const PACKS: [&str; 6] = ["pos", "core", "indexes", "rollups", "reports", "service"];

#[tokio::test]
async fn every_pack_undone_is_as_if_it_had_never_been() {
    let db = Db::empty().await;
    let mut client = db.connect().await;
    // The log stays: it is made before the first schema is looked at.
    migrate::up_only(&mut client, &["core"]).await.unwrap();
    migrate::undo(&mut client, "core", 0, false).await.unwrap();
    for (populated, drop_data) in [(false, false), (true, true)] {
        let mut before = Vec::new();
        for pack in PACKS {
            before.push(schema(&db).await);
            assert!(!migrate::up_only(&mut client, &[pack]).await.unwrap().is_empty(), "{pack}");
            assert_ne!(&schema(&db).await, before.last().unwrap(), "{pack} changes nothing");
            if pack == "pos" && populated {
                client.batch_execute(SALES).await.unwrap();
            }
        }
        let complete = schema(&db).await;
        for (number, pack) in PACKS.iter().enumerate().rev() {
            let undone = migrate::undo(&mut client, pack, 0, drop_data).await.unwrap();
            assert!(!undone.is_empty(), "{pack}");
            assert_same(&before[number], &schema(&db).await, &format!("after undoing {pack}"));
            assert!(migrate::undo(&mut client, pack, 0, drop_data).await.unwrap().is_empty(), "{pack} twice");
            // And it can be done again, to the same end.
            if *pack != "pos" {
                migrate::up_only(&mut client, &PACKS[..=number]).await.unwrap();
                for later in &PACKS[number + 1..] {
                    migrate::up_only(&mut client, &[later]).await.unwrap();
                }
                let again: Vec<String> = schema(&db).await.lines().map(numberless).collect();
                let complete: Vec<String> = complete.lines().map(numberless).collect();
                let (mut again, mut complete) = (again, complete);
                again.sort();
                complete.sort();
                assert_eq!(again, complete, "{pack} again");
                for later in PACKS[number..].iter().rev() {
                    migrate::undo(&mut client, later, 0, false).await.unwrap();
                }
            }
        }
    }
    let log: i64 =
        one(&client, "select count(*) from pulso.migration_log where action = 'undo' and outcome = 'done'").await;
    assert!(log > 50, "{log} entries");
}

/// The engine numbers its tables: a rollup made anew has another number.
pub fn numberless(line: &str) -> String {
    let mut text = String::new();
    let mut digits = false;
    for c in line.chars() {
        if !c.is_ascii_digit() {
            text.push(c);
        } else if !digits {
            text.push('0');
        }
        digits = c.is_ascii_digit();
    }
    text
}

#[tokio::test]
async fn undo_refuses_what_would_lose_something() {
    let db = Db::migrated().await;
    let client = db.connect().await;
    client.batch_execute(SALES).await.unwrap();
    for (pack, first) in [("pos", "indexes"), ("core", "rollups"), ("rollups", "reports")] {
        let output = pulso(&db, &["undo", pack]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(&format!("pulso migrate undo {first}")), "{}", stderr(&output));
    }
    let before: i64 = one(&client, "select sum(sales_count)::bigint from analytics.sales_daily").await;
    assert_eq!(before, 2000);
    for pack in ["reports", "rollups", "indexes"] {
        crate::stdout(&pulso(&db, &["undo", pack]));
    }
    let output = pulso(&db, &["undo", "pos"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("table public.stores holds rows"), "{}", stderr(&output));
    assert!(stderr(&output).contains("--drop-data"));
    assert_eq!(one::<i64>(&client, "select count(*) from sales").await, 2000);
    crate::stdout(&pulso(&db, &["undo", "pos", "--drop-data"]));
    assert!(one::<bool>(&client, "select to_regclass('public.sales') is null").await);
}

#[tokio::test]
async fn undo_keeps_the_steps_up_to_a_number() {
    let db = Db::migrated().await;
    let mut client = db.connect().await;
    migrate::undo(&mut client, "reports", 0, false).await.unwrap();
    let undone = migrate::undo(&mut client, "rollups", 1, false).await.unwrap();
    assert_eq!(undone.len(), 4, "the contract, V3, V2 and C2: {undone:?}");
    let left: i64 = one(&client, "select count(*) from pulso.rollups").await;
    assert_eq!(left, 4);
    let undone = migrate::undo(&mut client, "indexes", 4, false).await.unwrap();
    assert_eq!(undone.len(), 4, "{undone:?}");
    assert!(one::<bool>(&client, "select to_regclass('public.sales_sold_at_brin') is not null").await);
    assert!(one::<bool>(&client, "select to_regclass('public.events_created_at_brin') is null").await);
    migrate::up(&mut client).await.unwrap();
    assert!(migrate::pending(&client).await.unwrap().is_empty());
}

/// The reports lie behind their views, with steps undone or not.
/// Killed when an index is half gone, or gone and the log does not know yet: the log says that the undo had begun.
#[tokio::test]
async fn an_undo_that_is_killed_before_it_says_so_is_one_all_the_same() {
    let db = Db::empty().await;
    let mut client = db.connect().await;
    migrate::up_only(&mut client, &["pos"]).await.unwrap();
    migrate::up_only(&mut client, &["core"]).await.unwrap();
    migrate::undo(&mut client, "core", 0, false).await.unwrap();
    let without = schema(&db).await;
    migrate::up_only(&mut client, &["indexes"]).await.unwrap();
    let whole = schema(&db).await;
    client
        .batch_execute(
            "create function wait_for_the_test() returns trigger language plpgsql as $$ begin perform pg_advisory_xact_lock(1); return new; end $$;
             create trigger wait_for_the_test before update on pulso.migration_log for each row
               when (new.action = 'undo' and new.outcome = 'done') execute function wait_for_the_test();
             select pg_advisory_lock(1)",
        )
        .await
        .unwrap();
    let waits = "select exists (select from pg_stat_activity where datname = current_database() and wait_event = 'advisory' and query ~ 'migration_log')";
    let gone = "select not exists (select from pg_stat_activity where datname = current_database() and application_name = 'pulso migrate')";
    let kill = async |waits: &str| {
        let mut child = crate::command(&db, &["undo", "indexes"]).spawn().unwrap();
        until(&client, waits).await;
        child.kill().unwrap();
        child.wait().unwrap();
        until(&client, gone).await;
    };
    kill(waits).await;
    let undone: String =
        one(&client, "select step from pulso.migration_log where action = 'undo' and outcome = 'running'").await;
    let plan = stdout(&pulso(&db, &["plan", "indexes"]));
    assert!(plan.contains(&format!("pending  {undone}")), "{plan}");
    client
        .batch_execute("drop trigger wait_for_the_test on pulso.migration_log; select pg_advisory_unlock(1)")
        .await
        .unwrap();
    stdout(&pulso(&db, &["up", "indexes"]));
    client.batch_execute("drop function wait_for_the_test").await.unwrap();
    assert_same(&whole, &schema(&db).await, "after up");
    assert_eq!(pulso(&db, &["plan", "indexes", "--exit-code"]).status.code(), Some(0));
    // A writer keeps the index from going.
    let writer = db.connect().await;
    writer.batch_execute("begin; lock table sales, sale_items, events, inventory_movements, real_time_metrics, products, sales_heatmap in row exclusive mode").await.unwrap();
    let invalid = "select exists (select from pg_index where not indisvalid)";
    kill(invalid).await;
    assert!(one::<bool>(&client, invalid).await);
    writer.batch_execute("rollback").await.unwrap();
    migrate::undo(&mut client, "indexes", 0, false).await.unwrap();
    assert_same(&without, &schema(&db).await, "after undo");
}

#[tokio::test]
async fn a_step_undone_alone_leaves_functions_that_find_the_reports() {
    for tier in [Tier::Extension, Tier::Plain] {
        let db = Db::empty().await;
        let mut client = db.connect().await;
        migrate::up_on(&mut client, tier).await.unwrap();
        client.batch_execute(SALES).await.unwrap();
        let works = "
          select analytics.refresh_analytics_views(), pulso.refresh_view('analytics.mv_inventory_metrics')
            from pg_matviews v where v.matviewname = 'mv_inventory_metrics' and v.schemaname = 'analytics_all'";
        let listed = "select count(*) from pulso.freshness where kind = 'materialized view'";
        let reports: i64 = one(&client, listed).await;
        assert!(reports >= 8, "{reports}");
        for (pack, to) in [("reports", 2), ("service", 2)] {
            assert!(!migrate::undo(&mut client, pack, to, false).await.unwrap().is_empty());
            client.query_one(works, &[]).await.unwrap_or_else(|error| panic!("{tier:?}, without {pack} V3: {error:?}"));
            assert_eq!(one::<i64>(&client, listed).await, reports);
            assert!(
                one::<bool>(&client, "select not exists (select from pulso.unscoped)").await,
                "no report shows every shop"
            );
        }
        migrate::up(&mut client).await.unwrap();
        client.query_one(works, &[]).await.unwrap();
    }
}

/// A writer keeps its transaction open: undo waits for it, a moment at a time, and nobody waits for undo.
#[tokio::test]
async fn undo_waits_for_writers_without_holding_them_up() {
    let db = Db::migrated().await;
    let (mut client, writer, other) = (db.connect().await, db.connect().await, db.connect().await);
    client.batch_execute(SALES).await.unwrap();
    migrate::undo(&mut client, "reports", 0, false).await.unwrap();
    let void = "update sales set status = 'voided', voided_at = now() where number = ";
    writer.batch_execute(&format!("begin; {void} '1'")).await.unwrap();
    let undoing = tokio::spawn(async move { migrate::undo(&mut client, "rollups", 0, false).await });
    let pauses = crate::common::Pauses::watch();
    other.batch_execute("set lock_timeout = '400ms'").await.unwrap();
    for number in 2..60 {
        if let Err(error) = other.batch_execute(&format!("{void} '{number}'")).await {
            assert!(pauses.explain(), "{error:?}");
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(!undoing.is_finished());
    writer.batch_execute("commit").await.unwrap();
    undoing.await.unwrap().unwrap();
    assert!(one::<bool>(&other, "select not exists (select from pulso.rollups)").await);
}
