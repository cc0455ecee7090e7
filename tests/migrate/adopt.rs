//! docs/adopt.md, word for word, on databases that have been selling for a while.

use crate::common::{Db, cluster};
use crate::{one, stderr};
use pulso::migrate::{self, Tier};
use std::io::Write;
use std::process::{Command, Stdio};

const DOC: &str = include_str!("../../docs/adopt.md");

/// Fenced blocks of a document: (language, text).
pub fn blocks(document: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in document.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, text)), None) => text.extend([line, "\n"]),
            (None, None) => (),
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// Statement by statement, as somebody types it.
pub fn psql(db: &Db, text: &str) {
    let bin = futures_util::FutureExt::now_or_never(cluster()).expect("the cluster runs").bindir().join("psql");
    let mut child = Command::new(bin)
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", db.url()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{text}\n{}", stderr(&output));
}

fn run(db: &Db, section: &str) {
    for (language, text) in blocks(section) {
        if language == "sql" {
            psql(db, &text);
            continue;
        }
        assert_eq!(language, "sh");
        for line in text.lines() {
            let output = Command::new("sh")
                .args(["-c", line])
                .env(
                    "PATH",
                    format!(
                        "{}:{}",
                        std::path::Path::new(env!("CARGO_BIN_EXE_pulso")).parent().unwrap().display(),
                        std::env::var("PATH").unwrap()
                    ),
                )
                .env("DATABASE_URL", db.url())
                .stdin(Stdio::null())
                .output()
                .unwrap();
            assert!(output.status.success(), "{line}: {}", stderr(&output));
        }
    }
}

fn section(title: &str) -> &'static str {
    let start = DOC.find(&format!("\n## {title}")).unwrap_or_else(|| panic!("no section {title}"));
    let rest = &DOC[start + 1..];
    &rest[..rest[3..].find("\n## ").map_or(rest.len(), |end| end + 3)]
}

#[tokio::test]
async fn a_point_of_sale_with_tables_of_its_own() {
    let db = Db::empty().await;
    let client = db.connect().await;
    client.batch_execute(include_str!("la_caja.sql")).await.unwrap();
    let plan = crate::stdout(&crate::pulso(&db, &["plan"]));
    for line in [
        "skipped: the database has a table public.sales of its own",
        "blocked: column sales.business_date is missing",
        "blocked: column stores.time_zone is missing",
        "blocked: a validated foreign key from sale_items (sale_id) to sales is missing",
        "look at: column sales.cashier_id is missing, or of another type than uuid: no figures by cashier are kept",
    ] {
        assert!(plan.contains(line), "{line} is not in {plan}");
    }
    let (ready, rest) = section("A point of sale").split_once("**6. Pulso.**").unwrap();
    run(&db, ready);
    let mut migrator = db.connect().await;
    pulso::migrate::up_only(&mut migrator, &["core"]).await.unwrap();
    pulso::migrate::undo(&mut migrator, "core", 0, false).await.unwrap();
    let before = crate::schema(&db).await;
    client.batch_execute("create extension if not exists pulso").await.unwrap();
    run(&db, rest);
    let recount: (i64, rust_decimal::Decimal) = {
        let row = client
            .query_one(
                "select count(*), sum((totals ->> 'total_usd')::numeric) from sales where status = 'completed'",
                &[],
            )
            .await
            .unwrap();
        (row.get(0), row.get(1))
    };
    let row =
        client.query_one("select sum(sales_count)::bigint, sum(total_usd) from mv_sales_daily", &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, rust_decimal::Decimal>(1)), recount);
    assert_eq!(one::<i64>(&client, "select sum(pulso.verify(name))::bigint from pulso.rollups").await, 0);
    // The old application sells as before; its sale is dated by the shop's clock and has its gross.
    client
        .batch_execute("insert into sales (store_id, status, sold_at, totals, payment) select id, 'completed', '2030-01-01 02:00+00', '{\"total_bs\": 40, \"total_usd\": 1}', '{\"method\": \"card\"}' from stores limit 1")
        .await
        .unwrap();
    let new: String = one(&client, "select format('%s %s %s', sale_date, sales_count, trim_scale(avg_ticket_usd)) from mv_sales_daily where sale_date >= '2029-12-01'").await;
    assert_eq!(new, "2029-12-31 1 1");
    assert_eq!(crate::pulso(&db, &["plan", "--exit-code"]).status.code(), Some(0));
    assert!(pulso::migrate::pending(&client).await.unwrap().is_empty());
    cashiers_come_later(&db, &client).await;
    // The way back.
    for pack in ["service", "reports", "rollups", "indexes", "core"] {
        crate::stdout(&crate::pulso(&db, &["undo", pack]));
    }
    client.batch_execute("alter table sales drop column cashier_id; drop table cashiers").await.unwrap();
    crate::assert_same(&before, &crate::schema(&db).await, "after the way back");
}

/// Its sales have had no cashier so far.
async fn cashiers_come_later(db: &Db, client: &tokio_postgres::Client) {
    let cashiers = "select string_agg(format('%s %s %s %s %s', c.name, c.sales_count, c.voids_count, trim_scale(c.gross_usd), trim_scale(c.net_bs)), ', ' order by c.name)
                      from stores s cross join lateral analytics.cashier_performance(s.id, '2000-01-01', '2029-12-01') c";
    let made = "select coalesce(string_agg(query, ''), '') from pulso.rollups where name = 'analytics.cashier_sales_daily' and live";
    let error = client.query_one(cashiers, &[]).await.unwrap_err();
    assert_eq!(error.code(), Some(&tokio_postgres::error::SqlState::UNDEFINED_COLUMN));
    assert_eq!(one::<String>(client, made).await, "");
    run(db, section("Cashiers that come later"));
    let new = Db::migrated().await;
    assert_eq!(
        one::<String>(client, made).await,
        one::<String>(&new.connect().await, made).await,
        "as a new database has it"
    );
    assert_ne!(one::<String>(client, made).await, "");
    client
        .batch_execute(
            "insert into cashiers (store_id, name) select id, 'Ana' from stores;
             update sales s set cashier_id = c.id from cashiers c where c.store_id = s.store_id and (s.totals ->> 'total_usd')::int % 3 = 0",
        )
        .await
        .unwrap();
    let kept: String = one(client, cashiers).await;
    assert!(kept.contains("Ana"), "{kept}");
    client.batch_execute("begin; select pulso.drop_rollup('analytics.cashier_sales_daily')").await.unwrap();
    assert_eq!(one::<String>(client, cashiers).await, kept, "counted");
    client.batch_execute("rollback").await.unwrap();
    assert_eq!(one::<i64>(client, "select pulso.verify('analytics.cashier_sales_daily')").await, 0);
}

/// Without the column, or with one that the contract cannot give: no rollup, on no tier, and nothing to undo.
#[tokio::test]
async fn sales_without_a_cashier() {
    for tier in [Tier::Extension, Tier::Plain] {
        for column in [
            "alter table sales drop column cashier_id",
            "alter table sales drop column cashier_id; alter table sales add cashier_id text",
        ] {
            let db = Db::empty().await;
            let mut client = db.connect().await;
            migrate::up_only(&mut client, &["pos"]).await.unwrap();
            client.batch_execute(&format!("{}; {column}", crate::SALES)).await.unwrap();
            let plan = crate::stdout(&crate::pulso(&db, &["plan"]));
            assert!(plan.contains("look at: column sales.cashier_id is missing, or of another type"), "{plan}");
            let before = crate::schema(&db).await;
            migrate::up_on(&mut client, tier).await.unwrap();
            assert!(one::<bool>(&client, "select to_regclass('analytics.cashier_sales_daily') is null").await);
            client.batch_execute("select refresh_analytics_views()").await.unwrap();
            assert_eq!(one::<i64>(&client, "select sum(sales_count)::bigint from analytics.sales_daily").await, 2000);
            assert!(migrate::pending(&client).await.unwrap().is_empty());
            for pack in ["service", "reports", "rollups", "indexes", "core"] {
                migrate::undo(&mut client, pack, 0, false).await.unwrap();
            }
            crate::assert_same(&before, &crate::schema(&db).await, &format!("after undoing all, {column}"));
        }
    }
}

#[tokio::test]
async fn orders_and_their_items() {
    let db = Db::empty().await;
    let client = db.connect().await;
    client.batch_execute(include_str!("orders.sql")).await.unwrap();
    run(&db, section("Any other schema"));
    for name in ["analytics.orders_daily", "analytics.item_sales_daily"] {
        assert!(one::<bool>(&client, &format!("select live from pulso.rollups where name = '{name}'")).await);
        assert_eq!(one::<i64>(&client, &format!("select pulso.verify('{name}')")).await, 0);
    }
    let day: (i64, rust_decimal::Decimal) = {
        let row = client.query_one("select count(*), sum(total) from orders where status = 'paid'", &[]).await.unwrap();
        (row.get(0), row.get(1))
    };
    let row = client
        .query_one("select sum(orders)::bigint, sum(total) from analytics.orders_daily where status = 'paid'", &[])
        .await
        .unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, rust_decimal::Decimal>(1)), day);
    client.batch_execute("update orders set status = 'cancelled' where id = 1").await.unwrap();
    let left: i64 = one(&client, "select sum(units)::bigint from analytics.item_sales_daily").await;
    assert_eq!(left, one::<i64>(&client, "select sum(i.quantity)::bigint from order_items i join orders o on o.id = i.order_id where o.status = 'paid'").await);
}
