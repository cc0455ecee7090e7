//! `pulso load online-retail` on small files of its own making. The real file is in `online_retail.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::Db;
use indicatif::ProgressBar;
use pulso::load::online_retail::{Loaded, Mode, Options, load};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

const HEADER: &str = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";

/// A file that goes away with the test.
struct File(PathBuf);

impl File {
    fn new(content: &[u8]) -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pulso-load-{}-{next}.csv", std::process::id()));
        std::fs::write(&path, content).expect("a file in the temporary directory");
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Invoices of three lines, two of which are equal; every tenth is a return.
fn invoices(count: usize) -> String {
    let mut file = HEADER.to_owned();
    for n in 0..count {
        let (prefix, sign) = if n % 10 == 9 { ("C", "-") } else { ("", "") };
        let country = ["United Kingdom", "France", "EIRE"][n % 3];
        let customer = if n % 4 == 0 { String::new() } else { format!("{}.0", 10_000 + n % 50 * 3 + n % 3) };
        for line in ["A,ONE,2", "A,ONE,2", "B,\"TWO, 7\"\"\",1"] {
            let (start, qty) = line.rsplit_once(',').expect("three parts");
            let (minute, hour) = (n % 60, n / 60 % 24);
            let day = 1 + n / 1440;
            writeln!(
                file,
                "{prefix}{},{start},{sign}{qty},2011-05-{day:02} {hour:02}:{minute:02}:00,1.005,{customer},{country}",
                500_000 + n
            )
            .expect("a String");
        }
    }
    file
}

async fn counts(client: &Client) -> Vec<i64> {
    let row = client
        .query_one(
            "select (select count(*) from stores), (select count(*) from customers), (select count(*) from products),
                    (select count(*) from sales), (select count(*) from sale_items)",
            &[],
        )
        .await
        .expect("counts");
    (0..row.len()).map(|column| row.get(column)).collect()
}

/// Everything that a load decides, in an order of its own.
async fn everything(client: &Client) -> Vec<String> {
    let rows = client
        .query(
            "select format('%s %s %s %s %s %s %s %s %s', st.name, st.time_zone, s.number, s.kind, s.sold_at at time zone 'UTC', s.rate, s.totals, s.payment, c.document_id)
               from sales s join stores st on st.id = s.store_id left join customers c on c.id = s.customer_id
              union all
             select format('%s %s %s %s %s %s %s', i.id, i.sale_id, i.line_no, p.name, i.qty, i.unit_price_bs, i.unit_price_usd)
               from sale_items i join products p on p.id = i.product_id
              order by 1",
            &[],
        )
        .await
        .expect("everything");
    rows.iter().map(|row| row.get(0)).collect()
}

fn done(sales: usize, lines: usize, skipped: usize) -> Loaded {
    Loaded { sales, lines, skipped, ..Loaded::default() }
}

async fn run(client: &mut Client, file: &File, options: impl Into<Options>) -> Loaded {
    Loaded { seconds: 0.0, ..load(client, &file.0, options).await.expect("the file loads") }
}

#[tokio::test]
async fn the_ways_to_load_write_the_same_rows_and_nothing_twice() {
    let (one, two) = (Db::migrated().await, Db::migrated().await);
    let (mut bulk, mut ticket) = (one.connect().await, two.connect().await);
    let plain = File::new(invoices(300).as_bytes());
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(invoices(300).as_bytes()).expect("in memory");
    let packed = File::new(&packed.finish().expect("in memory"));

    assert_eq!(run(&mut bulk, &packed, Mode::Bulk).await, done(300, 900, 0));
    assert_eq!(run(&mut bulk, &plain, Mode::Bulk).await, done(0, 0, 300));
    assert_eq!(run(&mut bulk, &plain, Mode::Ticket).await, done(0, 0, 300));

    let first = Options { limit: Some(100), ..Mode::Ticket.into() };
    assert_eq!(run(&mut ticket, &plain, first.clone()).await, done(100, 300, 0));
    assert_eq!(run(&mut ticket, &plain, first).await, done(0, 0, 100));
    assert_eq!(run(&mut ticket, &plain, Mode::Ticket).await, done(200, 600, 100));

    assert_eq!(counts(&bulk).await, counts(&ticket).await);
    assert_eq!(everything(&bulk).await, everything(&ticket).await);
    let wrong: i64 = bulk
        .query_one(
            "select count(*) from sales s
              where (s.totals ->> 'total_usd')::numeric <> (select sum(i.qty * i.unit_price_usd) from sale_items i where i.sale_id = s.id)
                 or (s.totals ->> 'total_bs')::numeric <> (select sum(i.qty * i.unit_price_bs) from sale_items i where i.sale_id = s.id)
                 or (s.totals ->> 'items')::numeric <> (select sum(i.qty) from sale_items i where i.sale_id = s.id)",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(wrong, 0);
}

#[tokio::test]
async fn a_malformed_row_leaves_nothing_behind() {
    let db = Db::migrated().await;
    let mut client = db.connect().await;
    let mut text = invoices(200);
    text.push_str("999999,A,ONE,two,2011-05-01 08:00:00,1.005,,EIRE\n");
    let file = File::new(text.as_bytes());
    let name = file.0.file_name().unwrap().to_string_lossy().into_owned();
    for mode in [Mode::Bulk, Mode::Ticket] {
        let error = load(&mut client, &file.0, mode).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{name}:602:4: Quantity: found \"two\", expected a whole number such as 6 or -1")
        );
        assert_eq!(error.kind(), pulso::error::Kind::Usage);
        assert_eq!(counts(&client).await, [0, 0, 0, 0, 0]);
    }
}

#[tokio::test]
async fn an_interrupted_bulk_load_leaves_nothing_behind() {
    let db = Db::migrated().await;
    let mut client = db.connect().await;
    let file = File::new(invoices(3000).as_bytes());
    let options = Options::from(Mode::Bulk);
    options.cancel.cancel();
    let loaded = run(&mut client, &file, options).await;
    assert_eq!(loaded, Loaded { interrupted: true, ..Loaded::default() });

    // Once more while the rows are on their way.
    let options = Options { progress: ProgressBar::hidden(), cancel: CancellationToken::new(), ..Mode::Bulk.into() };
    let (progress, cancel) = (options.progress.clone(), options.cancel.clone());
    let watcher = tokio::spawn(async move {
        while progress.message() != "Loading" || progress.position() == 0 {
            tokio::time::sleep(std::time::Duration::from_micros(200)).await;
        }
        cancel.cancel();
    });
    let loaded = run(&mut client, &file, options).await;
    watcher.abort();
    assert!(loaded.interrupted, "{loaded:?}");
    assert_eq!(counts(&client).await, [0, 0, 0, 0, 0]);
    assert_eq!(run(&mut client, &file, Mode::Bulk).await, done(3000, 9000, 0), "the connection is as good as new");
}

#[tokio::test]
async fn an_interrupted_till_leaves_whole_invoices_and_goes_on() {
    let db = Db::migrated().await;
    let client = db.connect().await;
    let file = File::new(invoices(3000).as_bytes());
    let mut child = Command::new(env!("CARGO_BIN_EXE_pulso"))
        .args(["--database-url", db.url(), "load", "online-retail", "--ticket", "--json"])
        .arg(&file.0)
        .stdout(Stdio::piped())
        .spawn()
        .expect("pulso starts");
    while counts(&client).await[3] < 20 {
        assert!(child.try_wait().expect("a child").is_none(), "the load ended before it could be interrupted");
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("a signal");
    let output = child.wait_with_output().expect("pulso ends");
    assert_eq!(output.status.code(), Some(130));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    let sales = report["sales"].as_u64().unwrap();
    assert!(report["interrupted"].as_bool().unwrap() && sales < 3000, "{report}");
    let there = counts(&client).await;
    assert_eq!((there[3], there[4]), (sales as i64, sales as i64 * 3), "whole invoices, as many as it says");

    let again = Command::new(env!("CARGO_BIN_EXE_pulso"))
        .args(["--database-url", db.url(), "load", "online-retail"])
        .arg(&file.0)
        .output()
        .expect("pulso runs");
    let said = String::from_utf8(again.stdout).unwrap();
    assert!(said.contains("were there already"), "{said}");
    assert_eq!(counts(&client).await[3..], [3000, 9000]);
}

#[tokio::test]
async fn two_loaders_at_once_load_everything_once() {
    let db = Db::migrated().await;
    let file = File::new(invoices(600).as_bytes());
    for mode in [Mode::Bulk, Mode::Ticket] {
        let (mut one, mut two) = (db.connect().await, db.connect().await);
        let (a, b) = tokio::join!(run(&mut one, &file, mode), run(&mut two, &file, mode));
        assert_eq!((a.sales + b.sales, a.skipped + b.skipped), (600, 600));
        assert_eq!(counts(&one).await[3..], [600, 1800]);
        one.batch_execute("truncate sales cascade").await.unwrap();
    }
}

#[tokio::test]
async fn a_database_that_is_not_ready_is_told_so() {
    let db = Db::empty().await;
    let mut client = db.connect().await;
    let file = File::new(invoices(1).as_bytes());
    let error = load(&mut client, &file.0, Mode::Bulk).await.unwrap_err();
    assert_eq!(error.hint(), Some("Run `pulso migrate up` first."));
}

#[tokio::test]
async fn a_shop_of_the_same_name_is_left_alone() {
    let db = Db::migrated().await;
    let mut client = db.connect().await;
    client.execute("insert into stores (name) values ('France')", &[]).await.unwrap();
    let file = File::new(invoices(30).as_bytes());
    for mode in [Mode::Bulk, Mode::Ticket] {
        let error = load(&mut client, &file.0, mode).await.unwrap_err();
        assert_eq!(error.to_string(), "the database has a store France of its own, which this file would change");
        assert_eq!(counts(&client).await, [1, 0, 0, 0, 0]);
    }
}
