//! A server of the benchmark's own, and the processor time it takes.

use crate::Outcome;
use pulso::cluster::{Cluster, Options};
use pulso::db;
use tokio_postgres::Client;

/// A temporary cluster with `settings`, durable unless they say otherwise.
pub async fn start(settings: &[(&str, &str)]) -> Outcome<Cluster> {
    let mut options = Options::temporary()
        .set("fsync", "on")
        .set("full_page_writes", "on")
        .set("wal_level", "replica")
        .set("shared_buffers", "1GB")
        .set("max_wal_size", "8GB")
        .set("checkpoint_timeout", "30min")
        .set("max_connections", "100");
    for (name, value) in settings {
        options = options.set(name, value);
    }
    Ok(Cluster::start(&options).await?)
}

/// A new database in which `scripts` have run.
pub async fn database(cluster: &Cluster, name: &str, scripts: &[&str]) -> Outcome<Client> {
    db::connect(&cluster.url_of("postgres")).await?.batch_execute(&format!("create database {name}")).await?;
    let client = db::connect(&cluster.url_of(name)).await?;
    for script in scripts {
        client.batch_execute(script).await?;
    }
    client.batch_execute("vacuum analyze").await?;
    Ok(client)
}

/// Processor time in seconds that the server and all its processes, also those that have ended, have taken so far.
pub fn cpu_seconds(cluster: &Cluster) -> f64 {
    let Some(postmaster) = cluster.postmaster_pid() else { return f64::NAN };
    let mut ticks = 0;
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        // From the third field on: state, parent, …; 14–17 are user, system, and those of ended children.
        let fields: Vec<&str> = rest.split(' ').collect();
        let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        if pid == postmaster {
            ticks += field(14) + field(15) + field(16) + field(17);
        } else if field(4) == u64::from(postmaster.unsigned_abs()) {
            ticks += field(14) + field(15);
        }
    }
    // USER_HZ is 100 on every Linux of today.
    ticks as f64 / 100.0
}
