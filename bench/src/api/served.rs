//! Servers under load, each a process of its own.

use crate::Outcome;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

pub struct Served {
    child: Child,
    pub address: String,
}

impl Served {
    /// `pulso serve` of the same build as this program.
    pub async fn pulso(database: &str) -> Outcome<Self> {
        let program = std::env::current_exe()?.with_file_name("pulso");
        if !program.exists() {
            return Err(format!("{} is not there; build it first: cargo build --release", program.display()).into());
        }
        let mut child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--rate-limit", "0", "--no-jobs"])
            .env("DATABASE_URL", database)
            .env("PULSO_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let address = told(&mut child).await?;
        Ok(Self { child, address })
    }

    /// hyper alone, which gives every request this answer.
    pub async fn floor(answer: &str) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("floor")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        child.stdin.take().ok_or("no input")?.write_all(answer.as_bytes()).await?;
        let address = told(&mut child).await?;
        Ok(Self { child, address })
    }

    pub async fn node(database: &str, redis: &str) -> Outcome<Self> {
        let home = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/node"));
        if !home.join("node_modules").exists() {
            return Err("the Node peer is not installed; `make bench-api` does it".into());
        }
        let port = free_port()?;
        let child = Command::new("node")
            .arg("server.js")
            .current_dir(home)
            .env("NODE_ENV", "production")
            .env("PORT", port.to_string())
            .env("DATABASE_URL", database)
            .env("REDIS_URL", redis)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("node: {error}; `make bench-api` installs it"))?;
        let this = Self { child, address: format!("127.0.0.1:{port}") };
        this.up().await?;
        Ok(this)
    }

    /// A Redis that keeps nothing on disk, and its URL.
    pub async fn redis() -> Outcome<Self> {
        let port = free_port()?;
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("redis-server: {error}; `make bench-api` installs it"))?;
        let this = Self { child, address: format!("127.0.0.1:{port}") };
        this.up().await?;
        Ok(this)
    }

    /// Waits until it listens.
    async fn up(&self) -> Outcome<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&self.address).await.is_err() {
            if Instant::now() > deadline {
                return Err(format!("nothing listens on {}", self.address).into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// One answer: status line and headers, and body.
    pub async fn ask(&self, path: &str, header: &str) -> Outcome<(String, serde_json::Value)> {
        let answer = self.answer(path, header).await?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        Ok((head.to_owned(), serde_json::from_str(body).map_err(|error| format!("{error} in {answer}"))?))
    }

    /// The same as it comes.
    pub async fn answer(&self, path: &str, header: &str) -> Outcome<String> {
        let mut stream = TcpStream::connect(&self.address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// Resident memory in MB, of the process and its children: now, and the sum of what each had at most.
    pub fn memory(&self) -> (f64, f64) {
        let mut sum = (0.0, 0.0);
        for status in self.each("status", |status| [field(status, "Pid:"), field(status, "PPid:")]) {
            if let (Some(now), Some(most)) = (field(&status, "VmRSS:"), field(&status, "VmHWM:")) {
                sum = (sum.0 + now * 1024.0 / 1e6, sum.1 + most * 1024.0 / 1e6);
            }
        }
        sum
    }

    /// Processor time in seconds that the process and its children have taken so far, the kernel's for them included.
    pub fn cpu_seconds(&self) -> f64 {
        let stats = self.each("stat", |stat| [number(stat, 1), number(stat, 4)]);
        // USER_HZ is 100 on every Linux of today.
        stats.iter().filter_map(|stat| Some(number(stat, 14)? + number(stat, 15)?)).sum::<f64>() / 100.0
    }

    /// A file of `/proc` of each of its processes, where `of` reads a process's id and its parent's from the file.
    fn each(&self, file: &str, of: impl Fn(&str) -> [Option<f64>; 2]) -> Vec<String> {
        let Some(root) = self.child.id() else { return Vec::new() };
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let texts = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join(file)).ok());
        texts.filter(|text| of(text).contains(&Some(f64::from(root)))).collect()
    }

    pub async fn stop(mut self) -> Outcome<()> {
        Ok(self.child.kill().await?)
    }
}

/// The address in the first line that a server of ours writes.
async fn told(child: &mut Child) -> Outcome<String> {
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line).await?;
    let address = line.trim().rsplit("http://").next().filter(|text| text.contains(':'));
    Ok(address.ok_or("the service does not start; its reason is above")?.to_owned())
}

/// Of a `status`.
fn field(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Field number so and so of a `stat`; the second, which may hold spaces, is left out.
fn number(stat: &str, field: usize) -> Option<f64> {
    let (head, rest) = stat.rsplit_once(") ")?;
    match field {
        1 => head.split(' ').next()?.parse().ok(),
        _ => rest.split(' ').nth(field - 3)?.parse().ok(),
    }
}

fn free_port() -> Outcome<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
