//! Who runs the server. PostgreSQL refuses to run as root, so root hands it to another account.

use crate::error::{Error, Result};
use nix::unistd::{Gid, Uid, User};
use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Variables that would point the server or its tools at another cluster.
const FOREIGN: [&str; 9] =
    ["PGDATA", "PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD", "PGOPTIONS", "PGSERVICE"];

/// The account that owns the data and runs the server.
#[derive(Debug, Clone)]
pub struct Account {
    pub name: String,
    uid: Uid,
    gid: Gid,
    /// Whether this process is root and gives up its rights in each child.
    switch: bool,
}

impl Account {
    /// The user of this process; for root the system user `postgres`, else `nobody`.
    pub fn choose() -> Result<Self> {
        let me = Uid::effective();
        if !me.is_root() {
            let name = look_up(User::from_uid(me))?.map_or_else(|| me.to_string(), |user| user.name);
            return Ok(Self { name, uid: me, gid: Gid::effective(), switch: false });
        }
        for name in ["postgres", "nobody"] {
            if let Some(user) = look_up(User::from_name(name))? {
                return Ok(Self { name: user.name, uid: user.uid, gid: user.gid, switch: true });
            }
        }
        Err(Error::unavailable("PostgreSQL does not run as root, and there is no user postgres or nobody to run it")
            .with_hint("Add a system user named postgres, or run pulso as an ordinary user."))
    }

    /// Whether root runs Pulso and this account runs the server.
    pub fn is_switched(&self) -> bool {
        self.switch
    }

    pub fn uid(&self) -> Uid {
        self.uid
    }

    /// Makes `path` this account's own.
    pub fn own(&self, path: &Path) -> Result<()> {
        if self.switch {
            chown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
                .map_err(|error| Error::failed(format!("cannot give {} to {}: {error}", path.display(), self.name)))?;
        }
        Ok(())
    }

    pub fn owns(&self, path: &Path) -> bool {
        path.metadata().is_ok_and(|meta| meta.uid() == self.uid.as_raw())
    }

    /// A child process of this account, in `dir`, without input and without the caller's libpq settings.
    pub fn command(&self, program: impl AsRef<OsStr>, dir: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(dir).stdin(Stdio::null());
        for name in FOREIGN {
            command.env_remove(name);
        }
        if self.switch {
            command.uid(self.uid.as_raw()).gid(self.gid.as_raw());
        }
        command
    }

    /// Refuses a place that this account cannot reach, naming the directory that is closed.
    pub fn check_reach(&self, path: &Path) -> Result<()> {
        if !self.switch {
            return Ok(());
        }
        for dir in path.ancestors().skip(1) {
            let Ok(meta) = dir.metadata() else { continue };
            let shift = match () {
                () if meta.uid() == self.uid.as_raw() => 6,
                () if meta.gid() == self.gid.as_raw() => 3,
                () => 0,
            };
            if meta.mode() >> shift & 0o1 == 0 {
                return Err(Error::usage(format!(
                    "root runs the private PostgreSQL as {}, who cannot enter {} (mode {:o})",
                    self.name,
                    dir.display(),
                    meta.mode() & 0o777
                ))
                .with_hint(
                    "Name another place with --data-dir, such as /var/lib/pulso, or run pulso as an ordinary user.",
                ));
            }
        }
        Ok(())
    }
}

fn look_up(found: nix::Result<Option<User>>) -> Result<Option<User>> {
    found.map_err(|error| Error::failed(format!("cannot read the user database: {error}")))
}
