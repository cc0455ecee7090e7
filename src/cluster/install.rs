//! Which PostgreSQL of this machine to run: the newest one that has the extension.

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Major versions that Pulso supports.
pub const SUPPORTED: std::ops::RangeInclusive<u32> = 15..=18;
/// Libraries to preload where they are installed; TimescaleDB asks to be the first.
const PRELOAD: [&str; 3] = ["timescaledb", "pg_stat_statements", "pulso"];

/// An installed PostgreSQL.
#[derive(Debug, Clone)]
pub struct Installation {
    pub major: u32,
    pub bindir: PathBuf,
    sharedir: PathBuf,
    pkglibdir: PathBuf,
}

impl Installation {
    /// The newest supported one with the extension `pulso`; with `major`, the one of that version.
    pub fn find(major: Option<u32>) -> Result<Self> {
        let all = Self::all()?;
        let wanted = |i: &&Self| SUPPORTED.contains(&i.major) && major.is_none_or(|m| m == i.major);
        if let Some(best) = all.iter().filter(wanted).filter(|i| i.has_extension()).max_by_key(|i| i.major) {
            return Ok(best.clone());
        }
        let seen = all.iter().map(|i| format!("{} in {}", i.major, i.bindir.display())).collect::<Vec<_>>().join(", ");
        let message = match (major, all.iter().any(|i| wanted(&i)), seen.is_empty()) {
            (Some(major), _, _) => {
                format!("the data was made by PostgreSQL {major}, which is not installed here with the extension pulso")
            }
            (None, true, _) => format!("the extension pulso is not installed for PostgreSQL (found {seen})"),
            (None, false, false) => format!("PostgreSQL 15, 16, 17 or 18 is needed (found {seen})"),
            (None, false, true) => "no PostgreSQL server is installed here".to_owned(),
        };
        Err(Error::unavailable(message).with_hint(
            "Run `make setup`, which installs what is missing; or set DATABASE_URL to a server, or PULSO_PG_BINDIR to a server's bin directory.",
        ))
    }

    /// Every server found. `PULSO_PG_BINDIR` names the only one to look at.
    fn all() -> Result<Vec<Self>> {
        if let Some(dir) = std::env::var_os("PULSO_PG_BINDIR").filter(|dir| !dir.is_empty()) {
            let found = Self::in_dir(Path::new(&dir)).map_err(|error| error.context("PULSO_PG_BINDIR"))?;
            return Ok(vec![found]);
        }
        let mut dirs: Vec<PathBuf> = Vec::new();
        for (root, rest) in
            [("/usr/lib/postgresql", "bin"), ("/usr/local", "bin"), ("/usr", "bin"), ("/opt/homebrew/opt", "bin")]
        {
            let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
            // /usr/lib/postgresql/15/bin, /usr/pgsql-16/bin, /usr/local/pgsql/bin, …/postgresql@17/bin
            dirs.extend(entries.map(|entry| entry.path().join(rest)).filter(|dir| dir.join("postgres").is_file()));
        }
        dirs.extend(run(Path::new("pg_config"), "--bindir").map(PathBuf::from));
        dirs.sort();
        dirs.dedup();
        Ok(dirs.iter().filter_map(|dir| Self::at(dir)).collect())
    }

    /// The one whose programs are in this directory.
    pub fn in_dir(dir: &Path) -> Result<Self> {
        Self::at(dir).ok_or_else(|| {
            Error::usage(format!("{} has no PostgreSQL server (initdb, pg_ctl, postgres, pg_config)", dir.display()))
        })
    }

    fn at(bindir: &Path) -> Option<Self> {
        if !["postgres", "initdb", "pg_ctl"].iter().all(|program| bindir.join(program).is_file()) {
            return None;
        }
        let pg_config = bindir.join("pg_config");
        Some(Self {
            major: major_of(&run(&pg_config, "--version")?)?,
            bindir: bindir.to_owned(),
            sharedir: run(&pg_config, "--sharedir")?.into(),
            pkglibdir: run(&pg_config, "--pkglibdir")?.into(),
        })
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.bindir.join(name)
    }

    pub fn has_extension(&self) -> bool {
        self.sharedir.join("extension/pulso.control").is_file()
    }

    /// The libraries for `shared_preload_libraries`: those of Pulso's liking that are installed.
    pub fn preload(&self) -> Vec<&'static str> {
        PRELOAD.into_iter().filter(|name| self.pkglibdir.join(format!("{name}.so")).is_file()).collect()
    }
}

/// 15 of "PostgreSQL 15.20 (Debian 15.20-0+deb12u1)" and of "PostgreSQL 15beta2".
fn major_of(version: &str) -> Option<u32> {
    let number = version.split_whitespace().nth(1)?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn run(program: &Path, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::major_of;

    #[test]
    fn the_major_version_is_read_from_every_form() {
        assert_eq!(major_of("PostgreSQL 15.20 (Debian 15.20-0+deb12u1)"), Some(15));
        assert_eq!(major_of("PostgreSQL 18beta1"), Some(18));
        assert_eq!(major_of("PostgreSQL 17devel"), Some(17));
        assert_eq!(major_of("something else"), None);
    }
}
