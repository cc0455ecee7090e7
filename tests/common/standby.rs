//! A real streaming standby of a cluster, for as long as the value lives.

use super::Scratch;
use nix::unistd::{Uid, User, chown};
use pulso::cluster::Cluster;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub struct Standby {
    home: Scratch,
    bin: PathBuf,
    port: u16,
}

impl Standby {
    /// Copies the cluster and follows it from then on. What is in `settings` goes into its configuration.
    pub fn of(primary: &Cluster, settings: &str) -> Self {
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let this = Self { home: Scratch::new(), bin: primary.bindir().to_owned(), port };
        give_to_server(&this.home.0);
        let (host, from) = (primary.socket_dir().to_str().unwrap(), primary.port().to_string());
        let data = this.data();
        let copy = ["-D", &data, "-h", host, "-p", &from, "-U", "postgres", "-R", "-X", "stream", "-c", "fast"];
        as_server(&this.bin.join("pg_basebackup"), &this.home.0, &copy);
        // Its own socket and port: what comes last in the file wins.
        let conf = this.home.data().join("postgresql.conf");
        let mut text = std::fs::read_to_string(&conf).unwrap();
        let dir = this.home.0.display();
        text.push_str(&format!("\nport = {port}\nunix_socket_directories = '{dir}'\nhot_standby = on\n{settings}\n"));
        std::fs::write(&conf, text).unwrap();
        this.start();
        this
    }

    fn data(&self) -> String {
        self.home.data().display().to_string()
    }

    pub fn url_of(&self, database: &str) -> String {
        let host = self.home.0.to_str().unwrap().replace('/', "%2F");
        format!("postgresql:///{database}?host={host}&port={}&user=postgres", self.port)
    }

    /// As the service names it.
    pub fn name(&self) -> String {
        format!("{}:{}", self.home.0.display(), self.port)
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.home.0.join("log")).unwrap()).into_owned()
    }

    pub fn start(&self) {
        let log = self.home.0.join("log");
        self.control(&["-l", log.to_str().unwrap(), "-w", "start"]);
    }

    /// At once, as if it had crashed.
    pub fn kill(&self) {
        self.control(&["-m", "immediate", "-w", "stop"]);
    }

    pub fn promote(&self) {
        self.control(&["-w", "promote"]);
    }

    fn control(&self, args: &[&str]) {
        let data = self.data();
        as_server(&self.bin.join("pg_ctl"), &self.home.0, &[&["-D", &data], args].concat());
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        if self.home.data().join("postmaster.pid").exists() {
            self.kill();
        }
    }
}

/// A program of the server, run as the account that runs the server.
pub fn as_server(program: &Path, dir: &Path, args: &[&str]) {
    let mut command = Command::new(program);
    command.args(args).current_dir(dir).stdin(Stdio::null());
    if let Some(account) = account() {
        command.uid(account.uid.as_raw()).gid(account.gid.as_raw()).env("HOME", dir);
    }
    // What it starts keeps no pipe of this process open.
    let log = dir.join("program.log");
    let file = std::fs::File::create(&log).unwrap();
    let status = command.stdout(file.try_clone().unwrap()).stderr(file).status().unwrap();
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    assert!(status.success(), "{} {args:?}:\n{said}", program.display());
}

pub fn give_to_server(path: &Path) {
    if let Some(account) = account() {
        chown(path, Some(account.uid), Some(account.gid)).unwrap();
    }
}

/// Postgres refuses to run as root.
fn account() -> Option<User> {
    let names = ["postgres", "nobody"];
    Uid::effective().is_root().then(|| names.into_iter().find_map(|name| User::from_name(name).unwrap()).unwrap())
}
