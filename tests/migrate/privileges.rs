//! What docs/privileges.md grants is enough, and no more than that is needed.

use crate::adopt::{blocks, psql};
use crate::common::{Db, cluster, timescale};
use crate::hypertables::exact;
use crate::{one, stderr};
use std::process::{Command, Stdio};

const DOC: &str = include_str!("../../docs/privileges.md");

/// Runs the binary as the role of the document.
fn as_migrator(db: &Db, args: &[&str]) -> std::process::Output {
    let url = db.url().replace("user=postgres", "user=pulso_migrator");
    assert_ne!(url, db.url());
    let mut command = Command::new(env!("CARGO_BIN_EXE_pulso"));
    command.args(args).env("DATABASE_URL", url).stdin(Stdio::null()).output().unwrap()
}

#[tokio::test]
async fn the_documents_role_migrates_verifies_and_undoes() {
    let db = Db::empty().await;
    let client = db.connect().await;
    cluster().await;
    let blocks = blocks(DOC);
    let (mut superuser, mut run) = (Vec::new(), Vec::new());
    for (language, text) in &blocks {
        if language == "sql" {
            superuser.push(text.replace("shop", &db.name))
        } else {
            run.push(text.clone())
        };
    }
    for text in &superuser[..2] {
        psql(&db, text);
    }
    assert!(!one::<bool>(&client, "select rolsuper from pg_roles where rolname = 'pulso_migrator'").await);
    for line in run.iter().flat_map(|text| text.lines()) {
        let args: Vec<&str> = line.split_whitespace().skip(1).collect();
        let output = as_migrator(&db, &args);
        assert!(output.status.success(), "{line}: {}", stderr(&output));
    }
    let owner: String = one(&client, "select string_agg(distinct pg_get_userbyid(relowner), ' ') from pg_class where relnamespace in ('public'::regnamespace, 'analytics'::regnamespace)").await;
    assert_eq!(owner, "pulso_migrator");
    client.batch_execute(crate::SALES).await.unwrap();
    // A till that may only sell, and a reader of the figures.
    psql(&db, &superuser[2]);
    client.batch_execute("set role pulso_reader").await.unwrap();
    assert_eq!(one::<i64>(&client, "select sum(sales_count)::bigint from analytics.sales_daily").await, 2000);
    assert!(client.batch_execute("select * from public.sales").await.is_err());
    let shop = "'00000000-0000-4000-8000-000000000001'";
    assert_eq!(one::<i64>(&client, &format!("select total_products from analytics.inventory({shop})")).await, 10);
    client.batch_execute("reset role").await.unwrap();
    // And one of a single shop's, bound by the role that migrates.
    client.batch_execute("insert into stores (id, name) values (gen_random_uuid(), 'Bar')").await.unwrap();
    let text = superuser[3].replace("select pulso.bind_role", "set role pulso_migrator; select pulso.bind_role");
    psql(&db, &text);
    client.batch_execute("set role abasto_reader").await.unwrap();
    assert_eq!(one::<String>(&client, "select string_agg(name, ' ') from analytics.stores").await, "Abasto");
    assert_eq!(one::<i64>(&client, "select sum(sales_count)::bigint from analytics.mv_sales_daily").await, 2000);
    client.batch_execute("reset role").await.unwrap();

    for pack in ["service", "reports", "rollups", "indexes", "core"] {
        let output = as_migrator(&db, &["migrate", "undo", pack]);
        assert!(output.status.success(), "{pack}: {}", stderr(&output));
    }
    assert!(
        one::<bool>(&client, "select exists (select from pg_extension where extname = 'pulso')").await,
        "it is the superuser's"
    );

    // Without one of the grants, the list says which.
    client.batch_execute("revoke create on schema pulso from pulso_migrator").await.unwrap();
    let output = as_migrator(&db, &["migrate", "plan"]);
    let plan = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(plan.contains("blocked: role pulso_migrator may not create in schema pulso"), "{plan}");
    client
        .batch_execute("drop owned by pulso_migrator, pulso_reader, abasto_reader cascade; drop role pulso_migrator, pulso_reader, abasto_reader")
        .await
        .unwrap();
}

/// Its role converts tables, too: without the right to switch triggers off, row by row.
#[tokio::test]
async fn the_documents_role_converts_tables() {
    let Some(cluster) = timescale(17).await else { return };
    let db = Db::empty_in(&cluster).await;
    let client = db.connect().await;
    client.batch_execute("create extension timescaledb").await.unwrap();
    let superuser: Vec<(String, String)> = blocks(DOC).into_iter().filter(|(language, _)| language == "sql").collect();
    for (_, text) in &superuser[..2] {
        client.batch_execute(&text.replace("shop", &db.name)).await.unwrap();
    }
    let allowed = "select has_parameter_privilege('pulso_migrator', 'session_replication_role', 'set')";
    assert!(!one::<bool>(&client, allowed).await);
    let run = |args: &[&str]| {
        let output = as_migrator(&db, args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    };
    run(&["migrate", "up"]);
    client.batch_execute(crate::SALES).await.unwrap();
    let is_hypertable =
        "select exists (select from timescaledb_information.hypertables where hypertable_name = 'sales')";
    let rows = "select md5(string_agg(s::text, ',' order by s.id)) from sales s";
    let before: String = one(&client, rows).await;
    run(&["migrate", "up", "timescale", "--hypertable", "sales"]);
    assert!(one::<bool>(&client, is_hypertable).await);
    assert_eq!(one::<String>(&client, rows).await, before);
    assert_eq!(one::<i64>(&client, "select count(*) from sales_keys").await, 2000);
    exact(&client, "sales are a hypertable").await;
    run(&["migrate", "undo", "timescale"]);
    assert!(!one::<bool>(&client, is_hypertable).await);
    assert_eq!(one::<String>(&client, rows).await, before);
    exact(&client, "sales are a plain table").await;
    drop(client);
    cluster.stop().await.unwrap();
}
