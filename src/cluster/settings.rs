//! The server's settings: tuned to this machine's memory and to a shop's analytics, rewritten at each start.

use std::fmt::Write;

const MB: u64 = 1024 * 1024;

/// What the settings depend on.
pub struct Place<'a> {
    pub memory: u64,
    pub port: u16,
    pub socket_dir: &'a str,
    pub preload: &'a [&'static str],
}

/// The text of `pulso.conf`; `extra` comes last, so it wins.
pub fn render(place: &Place<'_>, extra: &[(String, String)]) -> String {
    let mb = |bytes: u64| format!("{}MB", bytes / MB);
    let memory = place.memory;
    let mut lines: Vec<(&str, String)> = vec![
        ("listen_addresses", "127.0.0.1".into()),
        ("port", place.port.to_string()),
        ("unix_socket_directories", format!("\"{}\"", place.socket_dir)),
        ("unix_socket_permissions", "0700".into()),
        ("cluster_name", "pulso".into()),
        ("shared_preload_libraries", place.preload.join(", ")),
        ("max_connections", "200".into()),
        // TimescaleDB and the folder take workers in each database; the default of 8 is soon used up.
        ("max_worker_processes", "24".into()),
        // A quarter of the memory, but not more than a private server on a shared machine should take.
        ("shared_buffers", mb((memory / 4).clamp(64 * MB, 2048 * MB))),
        ("effective_cache_size", mb((memory / 2).clamp(128 * MB, 65_536 * MB))),
        ("work_mem", mb((memory / 256).clamp(4 * MB, 32 * MB))),
        ("maintenance_work_mem", mb((memory / 16).clamp(32 * MB, 512 * MB))),
        // Short statements only lose by compiling.
        ("jit", "off".into()),
        ("random_page_cost", "1.1".into()),
        ("checkpoint_timeout", "15min".into()),
        ("max_wal_size", "2GB".into()),
        ("min_wal_size", "160MB".into()),
        ("wal_compression", "on".into()),
        // Hot rows of base tables and folded deltas leave dead rows in seconds, not in minutes.
        ("autovacuum_naptime", "5s".into()),
        ("track_io_timing", "on".into()),
        ("log_lock_waits", "on".into()),
        ("log_checkpoints", "off".into()),
        ("log_timezone", "UTC".into()),
        ("timezone", "UTC".into()),
        ("log_line_prefix", "%m [%p] %d ".into()),
    ];
    // Advice about kernel read-ahead exists on Linux only; elsewhere the setting must stay 0.
    if cfg!(target_os = "linux") {
        lines.push(("effective_io_concurrency", "200".into()));
    }
    if place.preload.contains(&"timescaledb") {
        lines.push(("timescaledb.telemetry_level", "off".into()));
    }
    let mut text =
        String::from("# Written by pulso at each start; put your own settings into user.conf beside the data.\n");
    let all = lines.into_iter().chain(extra.iter().map(|(name, value)| (name.as_str(), value.clone())));
    for (name, value) in all {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{name} = '{}'", value.replace('\\', "\\\\").replace('\'', "''"));
    }
    text
}

/// Memory this process may use, in bytes: the machine's, or its control group's where that is less.
pub fn memory() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_of(&text)).unwrap_or(1024 * MB);
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok())
        .fold(machine, u64::min)
}

fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(memory: u64, extra: &[(&str, &str)]) -> String {
        let extra: Vec<_> = extra.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        render(&Place { memory, port: 5433, socket_dir: "/s", preload: &["pulso"] }, &extra)
    }

    #[test]
    fn memory_settings_stay_sane_on_small_and_large_machines() {
        assert!(text(256 * MB, &[]).contains("shared_buffers = '64MB'"));
        assert!(text(4096 * MB, &[]).contains("shared_buffers = '1024MB'"));
        assert!(text(1 << 40, &[]).contains("shared_buffers = '2048MB'"));
    }

    #[test]
    fn given_settings_come_last_and_are_quoted() {
        let text = text(1 << 30, &[("jit", "on"), ("search_path", "a'b\\c")]);
        assert!(text.ends_with("jit = 'on'\nsearch_path = 'a''b\\\\c'\n"), "{text}");
    }

    #[test]
    fn total_memory_is_read() {
        assert_eq!(total_of("MemTotal:        2048 kB\nMemFree: 1 kB\n"), Some(2_097_152));
        assert_eq!(total_of("nothing"), None);
    }
}
