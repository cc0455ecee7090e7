//! Load: as much as goes (wrk), and at a fixed rate.

use super::served::Served;
use crate::Outcome;
use crate::report::percentile;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde::Deserialize;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Answered in all.
    pub requests: f64,
    pub per_second: f64,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub errors: u64,
    /// Processor time of each that the load itself took.
    pub load_us: f64,
}

#[derive(Deserialize)]
struct Told {
    requests: f64,
    duration_us: f64,
    p50_us: f64,
    p95_us: f64,
    p99_us: f64,
    errors: u64,
}

/// wrk: each connection sends its next request when it has the answer to the last.
pub async fn flat_out(
    server: &Served,
    control: &str,
    paths: &[String],
    connections: u32,
    seconds: u32,
) -> Outcome<Figures> {
    let before = children_seconds()?;
    let output = tokio::process::Command::new("wrk")
        .args(["--threads", "1", "--timeout", "10s"])
        .args(["--connections", &connections.to_string(), "--duration", &format!("{seconds}s")])
        .args([
            "--script",
            concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/wrk.lua"),
            &format!("http://{}", server.address),
        ])
        .args(["--", control])
        .args(paths)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| format!("wrk: {error}; `make bench-api` installs it"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find_map(|line| line.strip_prefix("RESULT "));
    let told: Told = serde_json::from_str(line.ok_or_else(|| format!("wrk: {said}{output:?}"))?)?;
    Ok(Figures {
        requests: told.requests,
        per_second: told.requests / told.duration_us * 1e6,
        p50_ms: told.p50_us / 1000.0,
        p95_ms: told.p95_us / 1000.0,
        p99_ms: told.p99_us / 1000.0,
        errors: told.errors,
        load_us: (children_seconds()? - before) * 1e6 / told.requests,
    })
}

/// Processor time of the children that have ended: the services run on.
fn children_seconds() -> Outcome<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// How long an answer may take before it counts as an error.
const PATIENCE: Duration = Duration::from_secs(10);

/// So many requests a second over all connections, each at its time on a plan that is made beforehand; a latency counts from
/// that time, not from when the request could be sent, so that a server that stalls does not hide it (coordinated omission).
pub async fn paced(
    server: &Served,
    control: &str,
    paths: &[String],
    connections: u32,
    per_second: f64,
    seconds: u32,
) -> Outcome<Figures> {
    let header = if control.is_empty() { String::new() } else { format!("cache-control: {control}\r\n") };
    let requests: Arc<[String]> =
        paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nhost: bench\r\n{header}\r\n")).collect();
    let mut streams = Vec::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(&server.address).await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let total = (per_second * f64::from(seconds)) as u64;
    let begin = Instant::now() + Duration::from_millis(500);
    let mut work = JoinSet::new();
    for (first, mut stream) in (0_u64..).zip(streams) {
        let requests = Arc::clone(&requests);
        work.spawn(async move {
            let (mut latencies, mut errors) = (Vec::new(), 0_u64);
            let mut buffer = Vec::with_capacity(8192);
            for number in (first..total).step_by(connections as usize) {
                let planned = begin + Duration::from_secs_f64(number as f64 / per_second);
                sleep_until(planned).await;
                let request = &requests[number as usize % requests.len()];
                match timeout(PATIENCE, ask(&mut stream, request, &mut buffer)).await {
                    Ok(Ok(true)) => latencies.push(planned.elapsed().as_secs_f64() * 1000.0),
                    Ok(Ok(false)) => errors += 1,
                    // Nothing more comes on this connection: what it had still to ask is not answered.
                    _ => return (latencies, errors + (number..total).step_by(connections as usize).count() as u64),
                }
            }
            (latencies, errors)
        });
    }
    let (mut latencies, mut errors) = (Vec::new(), 0);
    while let Some(done) = work.join_next().await {
        let (some, wrong) = done?;
        latencies.extend(some);
        errors += wrong;
    }
    let took = begin.elapsed().as_secs_f64();
    latencies.sort_by(f64::total_cmp);
    Ok(Figures {
        requests: latencies.len() as f64,
        per_second: latencies.len() as f64 / took,
        p50_ms: percentile(&latencies, 0.5),
        p95_ms: percentile(&latencies, 0.95),
        p99_ms: percentile(&latencies, 0.99),
        errors,
        load_us: f64::NAN,
    })
}

/// Whether it is answered by 200.
async fn ask(stream: &mut TcpStream, request: &str, buffer: &mut Vec<u8>) -> std::io::Result<bool> {
    stream.write_all(request.as_bytes()).await?;
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        let length = length.ok_or(std::io::ErrorKind::InvalidData)?;
        if buffer.len() >= end + 4 + length {
            return Ok(head.starts_with("http/1.1 200"));
        }
    }
}
