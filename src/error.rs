//! What a person at the terminal is told when a command fails: a sentence, a cure where there is one, an exit code.
//!
//! Modules with errors that callers must tell apart keep an enum of their own and convert here, once.
//! HTTP answers have their own form, in `serve::problem`.

use std::fmt;
use std::process::ExitCode;

/// Exit codes for pipelines; `docs/cli.md` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something failed: exit code 1.
    Failed = 1,
    /// The command or its input is wrong: exit code 2, as clap does.
    Usage = 2,
    /// The server cannot be reached or started: exit code 3.
    Unavailable = 3,
}

/// An error for the terminal. The message names the thing; the hint names the cure.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    hint: Option<String>,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says what was being done: `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// What Postgres said, whole: message, detail and hint. Connection strings never appear in it.
impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(db) = error.as_db_error() {
            let detail = db.detail().map(|d| format!(" ({d})")).unwrap_or_default();
            let mut this = Self::failed(format!("{}{detail} [{}]", db.message(), db.code().code()));
            this.hint = db.hint().map(str::to_owned);
            return this;
        }
        let cause = std::error::Error::source(&error).map(|s| format!(": {s}")).unwrap_or_default();
        let kind = if error.is_closed() { Kind::Unavailable } else { Kind::Failed };
        Self::new(kind, format!("{error}{cause}"))
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error.to_string())
    }
}
