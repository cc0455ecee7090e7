//! The server process: made, started, found again, stopped.
//!
//! `pg_ctl` starts it in a session of its own, so that the terminal's Ctrl-C does not reach it. What runs is
//! told by `postmaster.pid`, which Postgres keeps, checked against `/proc`, since a killed server leaves it behind.

use super::home::Home;
use super::install::Installation;
use crate::error::{Error, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a start may take, crash recovery of a large database included.
const START_PATIENCE: Duration = Duration::from_secs(900);
/// How long the backends of a killed postmaster get before they are killed as well.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(3);

/// What `postmaster.pid` says of a live server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postmaster {
    pub pid: i32,
    pub port: u16,
    pub socket_dir: PathBuf,
}

/// The live server of this home, if there is one.
pub fn running(home: &Home) -> Option<Postmaster> {
    let text = std::fs::read_to_string(home.pgdata().join("postmaster.pid")).ok()?;
    let found = parse(&text)?;
    is_server(found.pid, &home.pgdata()).then_some(found)
}

/// Lines of `postmaster.pid`: pid, data directory, start time, port, first socket directory, …
fn parse(text: &str) -> Option<Postmaster> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    Some(Postmaster {
        pid: lines.first()?.parse().ok()?,
        port: lines.get(3)?.parse().ok()?,
        socket_dir: lines.get(4)?.into(),
    })
}

/// Whether `pid` is a live PostgreSQL process of this data directory, and not one that got its number later.
fn is_server(pid: i32, pgdata: &Path) -> bool {
    if !Path::new("/proc/self/stat").exists() {
        return kill(Pid::from_raw(pid), None).is_ok();
    }
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let Some((name, rest)) = stat.rsplit_once(')') else { return false };
    let dead = rest.trim_start().starts_with(['Z', 'X']);
    let named = name.ends_with("(postgres") || name.ends_with("(postmaster");
    // A container's root may be forbidden to look; then the name has to do.
    let here = std::fs::read_link(format!("/proc/{pid}/cwd")).map_or(true, |cwd| cwd == pgdata);
    named && !dead && here
}

/// Every live process of this data directory.
async fn processes(home: &Home) -> Vec<i32> {
    let pgdata = home.pgdata();
    let found: Vec<(i32, PathBuf)> = if home.account.is_switched() {
        // A container's root may be forbidden to look at another user's processes; that user may.
        let mut find = home.account.command("find", Path::new("/"));
        find.args(["/proc", "-mindepth", "2", "-maxdepth", "2", "-name", "cwd", "-printf", "%h\\t%l\\n"]);
        let found = output(find, "find").await.map(|output| output.stdout).unwrap_or_default();
        let line = |line: &str| {
            let (process, cwd) = line.split_once('\t')?;
            Some((process.strip_prefix("/proc/")?.parse().ok()?, cwd.into()))
        };
        String::from_utf8_lossy(&found).lines().filter_map(line).collect()
    } else {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                Some((pid, std::fs::read_link(entry.path().join("cwd")).ok()?))
            })
            .collect()
    };
    found.into_iter().filter(|(pid, cwd)| *cwd == pgdata && is_server(*pid, &pgdata)).map(|(pid, _)| pid).collect()
}

/// Makes the data: in a directory of its own that gets its name when whole.
pub async fn init(home: &Home, install: &Installation, durable: bool) -> Result<()> {
    let password = home.password()?;
    home.write("initdb.password", &format!("{password}\n"))?;
    let new = home.path(&format!("pgdata.new-{}", std::process::id()));
    let mut outcome = initdb(home, install, &new, "C.UTF-8", durable).await;
    if outcome.as_ref().is_err_and(|error| error.to_string().contains("locale name")) {
        outcome = initdb(home, install, &new, "C", durable).await;
    }
    let _ = std::fs::remove_file(home.path("initdb.password"));
    outcome?;
    let conf = new.join("postgresql.conf");
    let mut text = std::fs::read_to_string(&conf)?;
    text.push_str("\n# Added by pulso; the last one wins.\ninclude 'pulso.conf'\ninclude_if_exists '../user.conf'\n");
    std::fs::write(&conf, text)?;
    std::fs::rename(&new, home.pgdata())?;
    Ok(())
}

async fn initdb(home: &Home, install: &Installation, new: &Path, locale: &str, durable: bool) -> Result<()> {
    let mut command = home.account.command(install.program("initdb"), &home.dir);
    command.arg("--pgdata").arg(new).args(["--username=postgres", "--encoding=UTF8", "--data-checksums"]);
    // Who reaches the socket may do anything: its directory lets in nobody but the server's own user, who owns
    // the data anyway. TCP is open to everyone on this machine, so there the password decides.
    command.args(["--auth-local=trust", "--auth-host=scram-sha-256"]);
    command.arg("--pwfile").arg(home.path("initdb.password")).arg(format!("--locale={locale}"));
    if !durable {
        command.arg("--no-sync");
    }
    let output = output(command, "initdb").await?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::failed(format!("initdb failed: {}", last_lines(&String::from_utf8_lossy(&output.stderr), 8))))
}

async fn output(command: std::process::Command, what: &str) -> Result<std::process::Output> {
    let mut command = tokio::process::Command::from(command);
    let outcome = command.output().await;
    outcome.map_err(|error| Error::unavailable(format!("cannot run {what}: {error}")))
}

/// Why a start failed.
pub enum Failure {
    /// Another program listens on the port that was free a moment ago.
    PortTaken,
    Other(Error),
}

/// Starts the server and waits until its process answers `pg_ctl`. The caller holds the lock.
pub async fn start(home: &Home, install: &Installation) -> Result<(), Failure> {
    clear_the_way(home).await.map_err(Failure::Other)?;
    let log_from = home.log().metadata().map_or(0, |meta| meta.len());
    let mut command = home.account.command(install.program("pg_ctl"), &home.dir);
    // Relative to the home: pg_ctl hands these to a shell, which would take a `$` or a `"` in a path for its own.
    command.args(["--pgdata", "pgdata", "--log", "server.log"]);
    command.args(["--silent", "--wait", "--timeout", &START_PATIENCE.as_secs().to_string(), "start"]);
    // The extension is Rust as well: a developer's setting would put backtraces into the details of SQL errors.
    command.env_remove("RUST_BACKTRACE");
    // Not the terminal's group: Ctrl-C during the start must not kill the server half-way.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let output = output(command, "pg_ctl").await.map_err(Failure::Other)?;
    if output.status.success() {
        return Ok(());
    }
    let log = tail(&home.log(), log_from);
    if log.contains("could not create any TCP/IP sockets")
        || log.contains("Is another postmaster already running on port")
    {
        return Err(Failure::PortTaken);
    }
    let said = if log.trim().is_empty() { String::from_utf8_lossy(&output.stderr).into_owned() } else { log };
    Err(Failure::Other(
        Error::unavailable(format!("the private PostgreSQL did not start. Its log ends:\n{}", last_lines(&said, 12)))
            .with_hint(format!(
                "The whole log is {}; your own settings are in {}.",
                home.log().display(),
                home.path("user.conf").display()
            )),
    ))
}

/// After a kill: waits for the backends that a dead postmaster left behind, and forgets the lock files of a
/// number that another program has now, or that nobody has reaped yet. Postgres sees to every other stale file.
async fn clear_the_way(home: &Home) -> Result<()> {
    let pgdata = home.pgdata();
    let pid_file = pgdata.join("postmaster.pid");
    let Ok(text) = std::fs::read_to_string(&pid_file) else { return Ok(()) };
    let begun = Instant::now();
    loop {
        let left = processes(home).await;
        if left.is_empty() {
            break;
        }
        let signal = if begun.elapsed() > 2 * ORPHAN_PATIENCE { Signal::SIGKILL } else { Signal::SIGQUIT };
        if begun.elapsed() > ORPHAN_PATIENCE {
            for pid in &left {
                let _ = kill(Pid::from_raw(*pid), signal);
            }
        }
        if begun.elapsed() > 5 * ORPHAN_PATIENCE {
            return Err(Error::unavailable(format!("processes {left:?} of a killed PostgreSQL do not end")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let pid = text.lines().next().and_then(|line| line.trim().parse().ok());
    if pid
        .is_some_and(|pid| !is_server(pid, &pgdata) && kill(Pid::from_raw(pid), None) != Err(nix::errno::Errno::ESRCH))
    {
        // The socket's lock file bears the same number.
        if let Some(gone) = parse(&text) {
            let _ = std::fs::remove_file(gone.socket_dir.join(format!(".s.PGSQL.{}.lock", gone.port)));
        }
        std::fs::remove_file(&pid_file)?;
    }
    Ok(())
}

/// How the server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Disconnects everyone and writes a checkpoint.
    Fast,
    /// As a crash would: the next start recovers.
    Immediate,
}

/// Stops the server if it runs, and waits for its end.
pub async fn stop(home: &Home, how: Stop) -> Result<()> {
    let Some(server) = running(home) else { return Ok(()) };
    let pgdata = home.pgdata();
    let signal = match how {
        Stop::Fast => Signal::SIGINT,
        Stop::Immediate => Signal::SIGQUIT,
    };
    signal_to(server.pid, signal)?;
    let begun = Instant::now();
    while is_server(server.pid, &pgdata) {
        if begun.elapsed() > Duration::from_secs(300) {
            return Err(Error::failed(format!("PostgreSQL (process {}) does not stop", server.pid))
                .with_hint(format!("See {}.", home.log().display())));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

pub fn signal_to(pid: i32, signal: Signal) -> Result<()> {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(error) => Err(Error::failed(format!("cannot signal PostgreSQL (process {pid}): {error}"))),
    }
}

/// What was added to a log after `from`, at most its last 64 kB.
fn tail(path: &Path, from: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(end.saturating_sub(64 * 1024)).min(end)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_file_is_read() {
        let text = "4242\n/d/pgdata\n1700000000\n5433\n/d/run\n127.0.0.1\n  1  2\nready   \n";
        let expected = Postmaster { pid: 4242, port: 5433, socket_dir: "/d/run".into() };
        assert_eq!(parse(text), Some(expected));
        assert_eq!(parse("4242\n"), None);
    }

    #[test]
    fn a_number_that_another_program_has_is_no_server() {
        assert!(!is_server(std::process::id().cast_signed(), Path::new("/")));
    }

    #[test]
    fn the_last_lines_leave_out_empty_ones() {
        assert_eq!(last_lines("a\n\nb\nc\n\n", 2), "b\nc");
    }
}
