//! Stops the server when the program dies without doing so: killed, panicked or cut off.
//!
//! A shell waits at the other end of a pipe. When the pipe closes and nobody else uses the server, it stops it.
//! Where `sh` or `flock` are missing there is no guard, and the next pulso takes over the server it finds.

use super::home::Home;
use super::install::Installation;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

const KEEP: &str = r#"trap '' HUP INT TERM
read -r word && exit 0
exec flock -w 5 -x "$1/pulso.users" "$2" --pgdata "$1/pgdata" --mode fast --silent stop"#;

/// For a temporary cluster: what it holds is of no use to anyone any more.
const DISCARD: &str = r#"trap '' HUP INT TERM
read -r word && exit 0
"$2" --pgdata "$1/pgdata" --mode immediate --silent stop
rm -rf "$1""#;

#[derive(Debug)]
pub struct Guard(Option<Child>);

impl Guard {
    pub fn set(home: &Home, install: &Installation, temporary: bool) -> Self {
        let mut command = home.account.command("/bin/sh", "/".as_ref());
        command.args(["-c", if temporary { DISCARD } else { KEEP }, "pulso-guard"]).arg(&home.dir);
        command.arg(install.program("pg_ctl"));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Self(command.spawn().inspect_err(|error| tracing::debug!(%error, "no guard")).ok())
    }

    /// Lets the guard go home: the server has been seen to.
    pub fn dismiss(&mut self) {
        if let Some(mut child) = self.0.take() {
            if let Some(mut pipe) = child.stdin.take() {
                let _ = pipe.write_all(b"done\n");
            }
            let _ = child.wait();
        }
    }
}
