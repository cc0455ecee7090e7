//! What operators see: metrics by the conventions, slow statements by name and plan.

use crate::client::{Client, raw};
use crate::common::Scratch;
use crate::shop::{self, GROCERY};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pulso::cluster::{Cluster, Options};
use std::collections::{BTreeMap, BTreeSet};

/// What `promtool check metrics` looks at, and OpenMetrics asks for: each family described once and with a type, names of
/// one form, base units, `_total` on counters and on nothing else, labels that do not repeat the name, an end.
pub fn is_by_the_conventions(text: &str) {
    let described = |what: &str| -> Vec<(String, String)> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(what)?.split_once(' '));
        lines.map(|(name, rest)| (name.to_owned(), rest.to_owned())).collect()
    };
    let (help, types) = (described("# HELP "), described("# TYPE "));
    let kinds: BTreeMap<&str, &str> = types.iter().map(|(name, kind)| (name.as_str(), kind.as_str())).collect();
    assert_eq!(help.len(), help.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len(), "a family twice");
    assert_eq!(types.len(), kinds.len());
    for (name, words) in &help {
        assert!(name.starts_with("pulso_"), "{name}");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
        assert!(words.len() > 10 && words.ends_with('.'), "{name}: {words:?}");
        assert!(kinds.contains_key(name.as_str()), "{name} has no type");
        for bad in ["_total", "_count", "_sum", "_bucket", "_info", "_created"] {
            assert!(!name.ends_with(bad), "{name} ends as a sample does");
        }
        for unit in ["milliseconds", "_ms", "minutes", "_us", "kilobytes", "megabytes", "percent"] {
            assert!(!name.contains(unit), "{name} is not in base units");
        }
        if name.contains("duration") || name.contains("staleness") || name.contains("lag") {
            assert!(name.ends_with("_seconds"), "{name} does not name its unit");
        }
    }
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(seen.insert(series.to_owned()), "{series} twice");
        let sample = series.split('{').next().unwrap();
        let suffixes = ["_total", "_bucket", "_count", "_sum"];
        let family = suffixes
            .iter()
            .filter_map(|suffix| sample.strip_suffix(suffix))
            .chain([sample])
            .find(|name| kinds.contains_key(name));
        let family = family.unwrap_or_else(|| panic!("{line} belongs to no family"));
        match kinds[family] {
            "counter" => assert!(sample.ends_with("_total"), "{line}"),
            "histogram" => assert_ne!(sample, family, "{line}"),
            _ => assert_eq!(sample, family, "{line}"),
        }
    }
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_statements_are_named_with_their_plans_and_out_of_pg_stat_statements() {
    let options =
        Options::temporary().set("shared_preload_libraries", "pulso,pg_stat_statements").set("shared_buffers", "32MB");
    let cluster = Cluster::start(&options).await.unwrap();
    let mut sql = pulso::db::connect(cluster.url()).await.unwrap();
    pulso::migrate::up(&mut sql).await.unwrap();
    shop::open(&sql).await;
    let without = Client::to(cluster.url()).get("/metrics").await;
    assert_eq!(without.status, 200);
    assert!(!String::from_utf8(without.body).unwrap().contains("pulso_server_statement"));
    sql.batch_execute("create extension pg_stat_statements").await.unwrap();

    let home = Scratch::new();
    let log = home.0.join("log");
    let (mut service, address) = crate::stage::serve(|command| {
        command
            .args(["--slow-ms", "0", "--explain-slow", "--log-format", "json"])
            .env("DATABASE_URL", cluster.url())
            .stderr(std::fs::File::create(&log).unwrap())
    });
    // Past the cache: the second would come out of it.
    let ask =
        |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncache-control: no-cache\r\n\r\n");
    for _ in 0..2 {
        let answer = raw(&address, &ask(&format!("/v1/stores/{GROCERY}/sales"))).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let metrics = raw(&address, &ask("/metrics")).await;
    let text = metrics.split_once("\r\n\r\n").unwrap().1;
    let text = text
        .lines()
        .filter(|line| line.contains("pulso_") || *line == "# EOF")
        .fold(String::new(), |all, line| all + line + "\n");
    is_by_the_conventions(&text);
    assert_eq!(text.matches("pulso_server_statement_mean_seconds{").count(), 10, "{text}");
    assert!(text.contains("pulso_rollup_fold_lag_seconds{"), "{text}");
    assert!(text.contains("pulso_statement_duration_seconds_count{statement=\"sales_by_period\"} 2"), "{text}");
    kill(Pid::from_raw(service.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(service.wait().unwrap().success());

    // Every line is JSON; one plan of the statement, whatever the number of its runs.
    let log = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let slow: Vec<_> =
        lines.iter().filter(|line| line["target"] == "pulso::slow" && line["statement"] == "sales_by_period").collect();
    assert_eq!(slow.iter().filter(|line| line["message"] == "slow statement").count(), 2, "{log}");
    let plans: Vec<_> = slow.iter().filter_map(|line| line["plan"].as_str()).collect();
    assert_eq!(plans.len(), 1, "{log}");
    assert!(plans[0].contains("Sort") && plans[0].contains("generate_series"), "{}", plans[0]);
    cluster.stop().await.unwrap();
}
