//! The same contract on every tier: names, columns, types, and at rest the same rows.

use crate::common::{Db, Scratch, cluster};
use crate::{assert_same, one, pulso, schema, stderr, stdout};
use indicatif::ProgressBar;
use jiff::Timestamp;
use nix::unistd::{Uid, User};
use pulso::migrate::{self, Tier};
use pulso::simulate::{Plan, history};
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

/// What people query, with its columns.
const VIEWS: &str = "
  select c.relname::text, string_agg(format('%s %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' order by a.attnum)
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
   where c.relnamespace in ('analytics'::regnamespace, 'public'::regnamespace)
     and c.relkind in ('v', 'm')
   group by c.relnamespace, c.relname";

async fn views(client: &Client) -> BTreeMap<String, String> {
    client.query(VIEWS, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Rows as sorted text, with numbers of one value written in one way.
async fn rows(client: &Client, from: &str) -> Vec<String> {
    let query = format!(
        "select regexp_replace(regexp_replace(t::text, '(\\.\\d*?)0+(?!\\d)', '\\1', 'g'), '\\.(?!\\d)', '', 'g') collate \"C\" from {from} t order by 1"
    );
    let rows = client.query(&query, &[]).await.unwrap_or_else(|error| panic!("{query}: {error:?}"));
    rows.iter().map(|row| row.get(0)).collect()
}

/// A shop's history, the same on each.
pub async fn shops(url: &str, until: Timestamp) {
    let plan = Plan { shops: 3, history_days: 12, until, ..Plan::default() };
    history(url, &plan, &ProgressBar::hidden(), &CancellationToken::new()).await.unwrap();
}

/// Every view, the dashboard and what the cashiers did, row by row.
pub async fn assert_same_figures(wanted: &Client, found: &Client, tier: &str) {
    let names = views(wanted).await;
    assert!(names.len() > 18, "{names:?}");
    assert_eq!(names, views(found).await, "{tier}");
    let dashboards = "(select d.* from stores s cross join generate_series(0, 3) n
                         cross join lateral analytics.dashboard(s.id, analytics.business_date(s.id) - n::int) d)";
    let cashiers = "(select s.id, c.* from stores s cross join lateral analytics.cashier_performance(s.id, current_date - 30, current_date + 1) c)";
    let all = names.keys().filter(|name| *name != "report_freshness").map(|name| format!("analytics.{name}"));
    for from in all.chain([dashboards.to_owned(), cashiers.to_owned()]) {
        let (wanted, found) = (rows(wanted, &from).await, rows(found, &from).await);
        assert!(!wanted.is_empty(), "{from} is empty: that proves nothing");
        assert_eq!(wanted.len(), found.len(), "{tier}: {from}");
        assert_eq!(wanted, found, "{tier}: {from}");
    }
}

#[tokio::test]
async fn golden_queries_answer_the_same_on_every_tier() {
    let until = Timestamp::now();
    let mut tiers = Vec::new();
    for tier in [Tier::Extension, Tier::Plain] {
        let db = Db::empty().await;
        let mut client = db.connect().await;
        migrate::up_on(&mut client, tier).await.unwrap();
        shops(db.url(), until).await;
        client.batch_execute("select refresh_analytics_views()").await.unwrap();
        tiers.push((db, client));
    }
    let [(_, extension), (plain_db, plain)] = &tiers[..] else { unreachable!() };
    assert_same_figures(extension, plain, "plain").await;

    // Between two refreshes the plain tier is as of the last, and says so.
    plain.batch_execute("update sales set status = 'voided', voided_at = now() where id = (select id from sales where status = 'completed' and kind = 'sale' limit 1)").await.unwrap();
    let lag = "select (select sum(sales_count) from mv_sales_daily) - (select count(*) from sales where status = 'completed' and kind = 'sale')";
    assert_eq!(one::<rust_decimal::Decimal>(plain, lag).await, 1.into());
    assert!(one::<bool>(plain, "select as_of < clock_timestamp() - interval '1 ms' from analytics.report_freshness where report = 'mv_sales_daily'").await);
    assert_eq!(one::<i64>(plain, "select pulso.fold()").await, 0, "not a minute old");
    plain.batch_execute("update pulso.plain_rollup set as_of = now() - interval '1 hour'").await.unwrap();
    assert_eq!(one::<i64>(plain, "select pulso.fold()").await, 7);
    assert_eq!(one::<rust_decimal::Decimal>(plain, lag).await, 0.into());

    // `pulso serve` does that by itself.
    plain.batch_execute("update sales set status = 'voided', voided_at = now() where id = (select id from sales where status = 'completed' and kind = 'sale' limit 1); update pulso.plain_rollup set as_of = now() - interval '1 hour'").await.unwrap();
    let stop = CancellationToken::new();
    let folding = tokio::spawn(pulso::fold::keep_folded(plain_db.url().to_owned(), stop.clone()));
    for _ in 0..200 {
        if one::<rust_decimal::Decimal>(plain, lag).await.is_zero() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    stop.cancel();
    folding.await.unwrap();
    assert_eq!(one::<rust_decimal::Decimal>(plain, lag).await, 0.into());

    assert!(migrate::pending(plain).await.unwrap().is_empty());
    assert_eq!(pulso(plain_db, &["plan", "--exit-code"]).status.code(), Some(0));
    stdout(&pulso(plain_db, &["verify"]));
    let other = pulso(plain_db, &["up", "--tier", "extension"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(stderr(&other).contains("on tier plain"), "{}", stderr(&other));
}

#[tokio::test]
async fn the_plain_tier_leaves_nothing_behind() {
    let db = Db::empty().await;
    let mut client = db.connect().await;
    migrate::up_only(&mut client, &["pos"]).await.unwrap();
    let before = schema(&db).await;
    let plan = stdout(&pulso(&db, &["plan", "--tier", "plain"]));
    assert!(
        plan.contains("tier plain") && plan.contains("look at: tier plain: figures are as of the last refresh"),
        "{plan}"
    );
    assert!(stdout(&pulso(&db, &["up", "--tier", "plain", "--dry-run"])).contains("create table pulso.plain_rollup"));
    stdout(&pulso(&db, &["up", "--tier", "plain"]));
    assert!(one::<bool>(&client, "select not exists (select from pg_extension where extname = 'pulso')").await);
    for pack in ["service", "reports", "rollups", "indexes", "core"] {
        stdout(&pulso(&db, &["undo", pack]));
    }
    assert_same(&before, &schema(&db).await, "after undoing the plain tier");
    // And the other tier can follow.
    stdout(&pulso(&db, &["up", "--tier", "extension"]));
    assert!(one::<bool>(&client, "select exists (select from pulso.rollups)").await);
}

/// The programs of this PostgreSQL, without the extension's files: a copy finds its own share directory.
fn without_extension(scratch: &Path, bin: &Path) -> PathBuf {
    let config = |what: &str| {
        let output = Command::new(bin.join("pg_config")).arg(what).output().ok()?;
        output.status.success().then(|| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
    };
    let places = ["--bindir", "--pkglibdir", "--sharedir"].map(|what| config(what).expect("pg_config"));
    for place in &places {
        let target = scratch.join(place.strip_prefix("/").unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        let copied =
            Command::new("cp").args(["-aL", place.to_str().unwrap(), target.to_str().unwrap()]).status().unwrap();
        assert!(copied.success());
    }
    let target = |place: &Path| scratch.join(place.strip_prefix("/").unwrap());
    for (dir, prefix) in [(target(&places[1]), "pulso"), (target(&places[2]).join("extension"), "pulso")] {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with(prefix) {
                std::fs::remove_file(path).unwrap();
            }
        }
    }
    target(&places[0])
}

/// A server of other programs than the tests' cluster has, stopped at the end of the test, whatever the end is.
struct Bare {
    bin: PathBuf,
    scratch: Scratch,
}

impl Bare {
    fn start(bin: &Path) -> Self {
        let scratch = Scratch::new();
        let this = Self { bin: without_extension(&scratch.0, bin), scratch };
        if Uid::effective().is_root() {
            let user = User::from_name("postgres").unwrap().expect("PostgreSQL does not run as root");
            nix::unistd::chown(&this.scratch.0, Some(user.uid), Some(user.gid)).unwrap();
        }
        let (data, sockets) = (this.scratch.data(), this.scratch.0.display().to_string());
        let data = data.to_str().unwrap();
        this.run("initdb", &["-D", data, "-A", "trust", "-U", "postgres", "--no-sync"]);
        let options = format!("-c listen_addresses='' -c fsync=off -c unix_socket_directories={sockets}");
        this.run("pg_ctl", &["-D", data, "-w", "-l", &format!("{sockets}/log"), "-o", &options, "start"]);
        this
    }

    fn run(&self, program: &str, args: &[&str]) {
        let mut command = Command::new(self.bin.join(program));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).current_dir("/");
        if Uid::effective().is_root() {
            let user = User::from_name("postgres").unwrap().unwrap();
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        assert!(command.status().unwrap().success(), "{program} {args:?}");
    }

    fn url(&self, database: &str) -> String {
        let host = self.scratch.0.display().to_string().replace('/', "%2F");
        format!("postgresql:///{database}?host={host}&user=postgres")
    }

    fn pulso(&self, database: &str, args: &[&str]) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pulso"));
        command.args(args).env("DATABASE_URL", self.url(database)).stdin(Stdio::null()).output().unwrap()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.run("pg_ctl", &["-D", self.scratch.data().to_str().unwrap(), "-m", "immediate", "stop"]);
    }
}

/// A server on which the extension is not is taken as it is; asked for the extension, the command says what is missing.
#[tokio::test]
async fn a_server_without_the_extension_gets_the_plain_tier() {
    let server = Bare::start(cluster().await.bindir());
    let refused = server.pulso("postgres", &["migrate", "up", "--tier", "extension"]);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("the extension pulso is not installed on this server"), "{}", stderr(&refused));
    let plan = stdout(&server.pulso("postgres", &["migrate", "plan"]));
    assert!(plan.starts_with("tier plain"), "{plan}");
    stdout(&server.pulso("postgres", &["migrate", "up"]));
    stdout(&server.pulso("postgres", &["migrate", "verify"]));
    let client = pulso::db::connect(&server.url("postgres")).await.unwrap();
    client.batch_execute(crate::SALES).await.unwrap();
    client.batch_execute("select refresh_analytics_views()").await.unwrap();
    assert_eq!(one::<i64>(&client, "select sum(sales_count)::bigint from mv_sales_daily").await, 2000);
    let other = server.pulso("postgres", &["migrate", "plan", "--tier", "extension"]);
    assert_eq!(other.status.code(), Some(2), "{}", stderr(&other));
}

/// A role that may install nothing, on a database of its own: a managed server.
#[tokio::test]
async fn the_plain_tier_needs_no_superuser() {
    let db = Db::empty().await;
    let client = db.connect().await;
    client.batch_execute("create role plain_owner login; grant create on schema public to plain_owner").await.unwrap();
    client.batch_execute(&format!("grant create on database {} to plain_owner", db.name)).await.unwrap();
    let url = db.url().replace("user=postgres", "user=plain_owner");
    let as_owner = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pulso"));
        command.arg("migrate").args(args).env("DATABASE_URL", &url).output().unwrap()
    };
    let refused = as_owner(&["up"]);
    assert_eq!(refused.status.code(), Some(1), "the files are on the server: a superuser can help");
    assert!(stderr(&refused).contains("--tier plain"), "{}", stderr(&refused));
    stdout(&as_owner(&["up", "--tier", "plain"]));
    stdout(&as_owner(&["verify"]));
    client.batch_execute("drop owned by plain_owner cascade; drop role plain_owner").await.unwrap();
}
