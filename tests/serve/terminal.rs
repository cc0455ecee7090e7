//! The same figures in the terminal: the binary itself, its words and exit codes.

use crate::client::Client;
use crate::common::Db;
use crate::shop::{self, DAY, GROCERY};
use serde_json::Value;
use std::process::{Command, Output};

fn pulso(db: &Db, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pulso"))
        .args(args)
        .env("DATABASE_URL", db.url())
        .env("LANG", "es_VE.UTF-8")
        .env_remove("LC_ALL")
        .env_remove("LC_MESSAGES")
        .output()
        .expect("the binary runs")
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[tokio::test]
async fn one_shop_is_shown_in_full_and_several_in_a_table() {
    let db = Db::migrated().await;
    shop::open(&db.connect().await).await;
    let one = stdout(&pulso(&db, &["kpi", "--store", "abasto", "--date", DAY]));
    for text in
        ["Abasto · jueves 30 jul 2026 · cerrado", "1.518,33", "37,84", "+89,2 %", "-15,9 %", "pago móvil", "09 "]
    {
        assert!(one.contains(text), "{text} is not in\n{one}");
    }
    assert!(!one.contains('\x1b'), "no colours where nobody looks");
    let all = stdout(&pulso(&db, &["kpi", "--date", DAY, "--lang", "en"]));
    for text in ["Thursday 30 Jul 2026", "Abasto", "Bar", "Together", "57.84", "pulso kpi --store NAME"] {
        assert!(all.contains(text), "{text} is not in\n{all}");
    }
}

#[tokio::test]
async fn json_is_what_the_service_answers() {
    let db = Db::migrated().await;
    shop::open(&db.connect().await).await;
    let printed: Value =
        serde_json::from_str(&stdout(&pulso(&db, &["kpi", "--store", GROCERY, "--date", DAY, "--json"]))).unwrap();
    let served = Client::to(db.url()).get(&format!("/v1/stores/{GROCERY}/dashboard?date={DAY}")).await;
    assert_eq!(printed, served.json());
    let several: Value = serde_json::from_str(&stdout(&pulso(&db, &["kpi", "--date", DAY, "--json"]))).unwrap();
    assert_eq!(several.as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn what_is_wrong_has_its_exit_code_and_a_cure() {
    let db = Db::migrated().await;
    let sql = db.connect().await;
    let none = pulso(&db, &["kpi"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&none.stderr).contains("there are no stores yet"));
    shop::open(&sql).await;
    let empty = Db::empty().await;
    for (db, args, code, says) in [
        (&db, &["kpi", "--store", "quiosco"][..], 2, "The stores are: Abasto, Bar"),
        (&db, &["kpi", "--store", "00000000-0000-4000-8000-00000000ffff"], 2, "there is no store"),
        (&db, &["kpi", "--date", "30/07/2026"], 2, "YYYY-MM-DD"),
        (&empty, &["kpi"], 1, "pulso migrate up"),
        (&empty, &["serve", "--listen", "127.0.0.1:0"], 1, "pulso migrate up"),
        (&db, &["serve", "--listen", "127.0.0.1:0", "--time-zone", "America/Atlantis"], 2, "IANA"),
        (&db, &["kpi", "--database-url", "postgresql://x@127.0.0.1:1/y"], 3, "cannot be reached"),
    ] {
        let output = pulso(db, args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(says), "{says} is not in {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

#[tokio::test]
async fn the_demonstration_comes_up_sells_and_ends_by_itself() {
    let db = Db::empty().await;
    let args = ["demo", "--stores", "2", "--history", "8d", "--rate", "20", "--for", "3s", "--listen", "127.0.0.1:0"];
    let first = stdout(&pulso(&db, &args));
    for text in ["http://127.0.0.1:", "Abasto El Hatillo", "En total", "ventas hechas"] {
        assert!(first.contains(text), "{text} is not in\n{first}");
    }
    let sql = db.connect().await;
    let count = async || -> i64 { sql.query_one("select count(*) from public.sales", &[]).await.unwrap().get(0) };
    let before = count().await;
    assert!(before > 8 * 100, "{before} sales in eight days");
    // The second run writes no past anew.
    stdout(&pulso(&db, &args));
    let more = count().await - before;
    assert!((20..300).contains(&more), "{more} sales in the second run");
    for row in sql.query("select name, pulso.verify(name) from pulso.rollups", &[]).await.unwrap() {
        assert_eq!(row.get::<_, i64>(1), 0, "{} differs from its query", row.get::<_, &str>(0));
    }
}
