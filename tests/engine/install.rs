//! The install script is written by hand; these compare it with the library.

use crate::common::{Db, Scratch, python_program, skip};
use std::collections::BTreeSet;
use std::path::Path;

const SCRIPT: &str = include_str!("../../extension/sql/pulso--0.2.0.sql");

fn between<'a>(text: &'a str, before: &str, after: &str) -> Vec<&'a str> {
    text.split(before).skip(1).filter_map(|rest| rest.split(after).next()).collect()
}

fn sources(dir: &Path, text: &mut String) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else {
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn the_script_declares_each_function_of_the_library_and_no_other() {
    let declared: BTreeSet<String> =
        between(SCRIPT, "'MODULE_PATHNAME', '", "'").into_iter().map(str::to_owned).collect();
    let mut code = String::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("extension/src"), &mut code);
    let mut exported = BTreeSet::new();
    for part in code.split("\n#[pg_extern").skip(1) {
        let name = part.split("fn ").nth(1).and_then(|rest| rest.split(['(', '<']).next()).unwrap();
        exported.insert(format!("{name}_wrapper"));
    }
    for name in between(&code, "version_1!(pg_finfo_", ");") {
        exported.insert(name.to_owned());
    }
    assert_eq!(declared, exported);
}

#[tokio::test]
async fn everything_in_the_schema_is_commented() {
    let db = Db::empty().await;
    let client = db.connect().await;
    client.batch_execute("create extension pulso").await.unwrap();
    let bare = client
        .query(
            "select p.oid::regprocedure::text from pg_proc p
              where p.pronamespace = 'pulso'::regnamespace and obj_description(p.oid, 'pg_proc') is null
             union all
             select c.oid::regclass::text from pg_class c
              where c.relnamespace = 'pulso'::regnamespace and c.relkind in ('r', 'v')
                and obj_description(c.oid, 'pg_class') is null",
            &[],
        )
        .await
        .unwrap();
    let bare: Vec<String> = bare.iter().map(|row| row.get(0)).collect();
    assert!(bare.is_empty(), "without a comment: {bare:?}");
}

#[tokio::test]
async fn the_last_rollup_of_a_table_takes_the_triggers_with_it() {
    let db = Db::empty().await;
    let client = db.connect().await;
    client
        .batch_execute(
            "create extension pulso; create table t (k int, x int);
             select pulso.create_rollup('public.a', 'select k, count(*) n from t group by k');
             select pulso.create_rollup('public.b', 'select k, sum(x) s from t group by k')",
        )
        .await
        .unwrap();
    let triggers = "select count(*) from pg_trigger where tgrelid = 't'::regclass and tgname like 'pulso%'";
    let leftovers =
        "select count(*) from pg_class where relnamespace = 'pulso'::regnamespace and relname ~ '^[ab]_[0-9]+_'";
    client.batch_execute("select pulso.drop_rollup('public.a')").await.unwrap();
    assert_eq!(client.query_one(triggers, &[]).await.unwrap().get::<_, i64>(0), 4);
    client
        .batch_execute("insert into t values (1, 2); select pulso.drop_rollup('public.b'); insert into t values (1, 2)")
        .await
        .unwrap();
    assert_eq!(client.query_one(triggers, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert_eq!(client.query_one(leftovers, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn jsonb_numeric_gives_the_number_or_null_and_never_an_error() {
    let db = Db::empty().await;
    let client = db.connect().await;
    client.batch_execute("create extension pulso").await.unwrap();
    for (document, expected) in [
        (r#"{"a": 7.50}"#, Some("7.50")),
        (r#"{"a": -1e3}"#, Some("-1000")),
        (r#"{"a": 123456789012345678901234567890.123}"#, Some("123456789012345678901234567890.123")),
        (r#"{"a": "7.5"}"#, None),
        (r#"{"a": null}"#, None),
        (r#"{"a": {"a": 1}}"#, None),
        (r#"{"b": 1}"#, None),
        (r"{}", None),
        (r#"["a", 1]"#, None),
        (r#""a""#, None),
        ("5", None),
        ("null", None),
    ] {
        let row =
            client.query_one("select pulso.jsonb_numeric($1::text::jsonb, 'a')::text", &[&document]).await.unwrap();
        assert_eq!(row.get::<_, Option<&str>>(0), expected, "{document}");
    }
    // From a toasted document as well.
    let row = client
        .query_one(
            "select pulso.jsonb_numeric(jsonb_build_object('a', 1.5, 'b', repeat('x', 100000), 'c', (select string_agg(md5(i::text), '') from generate_series(1, 5000) i)), 'a')::text",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, Option<&str>>(0), Some("1.5"));
}

/// pgspot looks for names that the schemas of others could give another meaning, and for objects that a script would
/// take over.
#[test]
fn pgspot_finds_nothing_in_the_scripts() {
    let program = match python_program("pgspot", "pgspot==0.9.4") {
        Ok(program) => program,
        Err(reason) => return skip(&format!("pgspot is not here: {reason}")),
    };
    let scratch = Scratch::new();
    for (name, script) in [("install", SCRIPT), ("update", include_str!("../../extension/sql/pulso--0.1.0--0.2.0.sql"))]
    {
        // It knows neither psql's commands nor SET LOCAL, and stops at bodies that are expressions, whose names Postgres
        // binds when it makes the function.
        let lines: Vec<&str> = script.lines().filter(|line| !line.starts_with("\\echo")).collect();
        let text = lines.join("\n").replace("set local search_path", "set search_path");
        let known: Vec<&str> = text
            .split_inclusive(";\n")
            .filter(|statement| !(statement.contains("create function") && statement.contains("\nreturn case")))
            .collect();
        assert_eq!(text.matches("\nreturn case").count(), text.split_inclusive(";\n").count() - known.len());
        let file = scratch.0.join(format!("{name}.sql"));
        std::fs::write(&file, known.concat()).unwrap();
        let output = std::process::Command::new(&program).arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            said.contains("Errors: 0 Warnings: 0 Unknown: 0"),
            "{name}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
