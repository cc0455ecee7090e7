//! The directory of a private cluster, and who may use it.
//!
//! | entry | what it is |
//! |---|---|
//! | `PULSO_CLUSTER` | the marker: only a directory that bears it is ever started in or deleted from |
//! | `pgdata/` | the server's data |
//! | `run/` | its socket, unless the path is too long for one |
//! | `pgpass` | the password for TCP, in the form that `PGPASSFILE` takes |
//! | `server.log` | what the server says |
//! | `user.conf` | the user's own settings; never written, kept by `--fresh` |
//! | `pulso.lock` | held while a process starts or stops the server |
//! | `pulso.users` | held, shared, by each process that uses the server: the last one stops it |

use super::account::Account;
use crate::error::{Error, Result};
use rand::RngExt;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const MARKER: &str = "PULSO_CLUSTER";
const MARKER_TEXT: &str = "A private PostgreSQL of Pulso. `pulso --fresh` deletes what is in here, except user.conf.\n";
/// A socket's path has at most 107 bytes; its name takes up to `/.s.PGSQL.65535`, and a lock file adds `.lock`.
const SOCKET_DIR_MAX: usize = 107 - "/.s.PGSQL.65535.lock".len();
/// The server log is put aside at a start when it has grown beyond this.
const LOG_MAX: u64 = 16 * 1024 * 1024;

#[derive(Debug)]
pub struct Home {
    pub dir: PathBuf,
    pub account: Account,
}

impl Home {
    /// Opens or makes the directory; refuses one that holds something else.
    pub fn open(dir: &Path, account: Account) -> Result<Self> {
        account.check_reach(dir)?;
        let denied = |error: std::io::Error| {
            Error::usage(format!("cannot use {} for the private PostgreSQL: {error}", dir.display()))
                .with_hint("Name another place with --data-dir.")
        };
        if let Some(parent) = dir.parent() {
            std::fs::create_dir_all(parent).map_err(denied)?;
        }
        match DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(denied(error)),
            _ => {}
        }
        // Postgres compares paths, and so do we.
        let dir = dir.canonicalize().map_err(denied)?;
        account.check_reach(&dir)?;
        let home = Self { dir, account };
        if !home.path(MARKER).is_file() {
            // Another pulso may be making it this very moment: then the marker is there when its other files are.
            let foreign = std::fs::read_dir(&home.dir)
                .map_err(denied)?
                .flatten()
                .any(|entry| !entry.file_name().to_string_lossy().starts_with(MARKER));
            if foreign && !home.path(MARKER).is_file() {
                return Err(Error::usage(format!(
                    "{} is not empty and not a data directory of Pulso",
                    home.dir.display()
                ))
                .with_hint("Nothing was changed. Name an empty or a new directory with --data-dir."));
            }
            home.account.own(&home.dir)?;
            std::fs::set_permissions(&home.dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).map_err(denied)?;
            home.write(MARKER, MARKER_TEXT)?;
        }
        if !home.account.owns(&home.dir) {
            return Err(Error::usage(format!(
                "{} belongs to another user than {}",
                home.dir.display(),
                home.account.name
            ))
            .with_hint("Run pulso as the user who made it, or name another place with --data-dir."));
        }
        Ok(home)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn pgdata(&self) -> PathBuf {
        self.path("pgdata")
    }

    pub fn log(&self) -> PathBuf {
        self.path("server.log")
    }

    /// The PostgreSQL that made the data, if there is data.
    pub fn major(&self) -> Option<u32> {
        std::fs::read_to_string(self.pgdata().join("PG_VERSION")).ok()?.trim().parse().ok()
    }

    /// Writes a file of mode 0600 that belongs to the account.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        let failed = |error: std::io::Error| Error::failed(format!("cannot write {}: {error}", path.display()));
        let new = path.with_added_extension(format!("{:08x}", rand::random::<u32>()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        self.account.own(&new)?;
        std::fs::rename(&new, &path).map_err(failed)
    }

    /// Deletes the cluster's data; the marker, the locks and the user's own settings stay.
    pub fn wipe(&self) -> Result<()> {
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let gone = match &*name {
                "pgdata" | "run" => std::fs::remove_dir_all(entry.path()),
                name if name.starts_with("pgdata.new-") => std::fs::remove_dir_all(entry.path()),
                "pgpass" | "port" | "server.log" | "server.log.old" => std::fs::remove_file(entry.path()),
                _ => Ok(()),
            };
            gone.map_err(|error| Error::failed(format!("cannot delete {}: {error}", entry.path().display())))?;
        }
        Ok(())
    }

    /// Removes what an interrupted `initdb` left behind.
    pub fn sweep(&self) -> Result<()> {
        for entry in std::fs::read_dir(&self.dir)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with("pgdata.new-") {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        if self.log().metadata().is_ok_and(|meta| meta.len() > LOG_MAX) {
            std::fs::rename(self.log(), self.path("server.log.old"))?;
        }
        Ok(())
    }

    /// The password for TCP: 128 random bits, made once.
    pub fn password(&self) -> Result<String> {
        if let Ok(text) = std::fs::read_to_string(self.path("pgpass"))
            && let Some(password) = text.trim_end().rsplit(':').next().filter(|p| !p.is_empty())
        {
            return Ok(password.to_owned());
        }
        let password = format!("{:032x}", rand::rng().random::<u128>());
        self.write("pgpass", &format!("*:*:*:*:{password}\n"))?;
        Ok(password)
    }

    /// A directory of mode 0700, owned by the account, whose path is short enough for a socket.
    pub fn socket_dir(&self) -> Result<PathBuf> {
        let inside = self.path("run");
        let dir = if inside.as_os_str().len() <= SOCKET_DIR_MAX && inside.to_str().is_some_and(|s| !s.contains('"')) {
            inside
        } else {
            // The name follows from the directory, so that every process and every start finds the same.
            let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, self.dir.as_os_str().as_encoded_bytes());
            PathBuf::from(format!("/tmp/pulso-{}-{}", self.account.uid(), id.simple()))
        };
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => self.account.own(&dir)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::failed(format!("cannot make {}: {error}", dir.display()))),
        }
        // Under /tmp anyone could have made it first.
        let meta = dir.symlink_metadata()?;
        if !meta.is_dir() || meta.uid() != self.account.uid().as_raw() || meta.mode() & 0o077 != 0 {
            return Err(Error::failed(format!(
                "{} is not a private directory of {}",
                dir.display(),
                self.account.name
            ))
            .with_hint("Remove it, or name a shorter path with --data-dir."));
        }
        Ok(dir)
    }

    fn open_lock(&self, name: &str) -> Result<File> {
        let path = self.path(name);
        let fresh = !path.exists();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| Error::failed(format!("cannot open {}: {error}", path.display())))?;
        if fresh {
            self.account.own(&path)?;
        }
        Ok(file)
    }

    /// Waits for the right to start or stop the server. Released when dropped, or when the process dies.
    pub async fn lock(&self, patience: Duration) -> Result<File> {
        let file = self.open_lock("pulso.lock")?;
        self.wait(&file, File::try_lock, patience).await?;
        Ok(file)
    }

    /// Enters this process as a user of the server. Released when dropped, or when the process dies.
    pub async fn join(&self) -> Result<File> {
        let file = self.open_lock("pulso.users")?;
        self.wait(&file, File::try_lock_shared, Duration::from_secs(120)).await?;
        Ok(file)
    }

    /// Whether no other process uses the server; then none can until the returned lock is dropped.
    pub fn alone(&self) -> Result<Option<File>> {
        let file = self.open_lock("pulso.users")?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    async fn wait(
        &self,
        file: &File,
        try_lock: fn(&File) -> Result<(), TryLockError>,
        patience: Duration,
    ) -> Result<()> {
        let begun = Instant::now();
        loop {
            match try_lock(file) {
                Ok(()) => return Ok(()),
                Err(TryLockError::Error(error)) => return Err(error.into()),
                Err(TryLockError::WouldBlock) if begun.elapsed() > patience => {
                    return Err(Error::unavailable(format!(
                        "another pulso has been starting or stopping the PostgreSQL in {} for {} s",
                        self.dir.display(),
                        patience.as_secs()
                    ))
                    .with_hint(format!("See {}.", self.log().display())));
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}
