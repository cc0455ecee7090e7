//! Why a read gave no answer. `serve::problem` turns it into an HTTP answer, `crate::error` into words for the terminal.

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    #[error("there is no store {0}")]
    UnknownStore(Uuid),
    /// What a function of the contract was asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// The server cannot be reached, or all connections are busy.
    #[error("the database cannot be reached: {0}")]
    Unavailable(String),
    #[error("the database took too long to answer")]
    TimedOut,
    #[error("the database is not migrated: {0}")]
    NotMigrated(String),
    #[error("{0}")]
    Failed(String),
}

impl From<tokio_postgres::Error> for ReadError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            let text = crate::error::Error::from(error).to_string();
            // Neither SQL nor a decoding fault: the connection. Decoding faults name the column.
            return if text.starts_with("error deserializing") || text.starts_with("error serializing") {
                Self::Failed(text)
            } else {
                Self::Unavailable(text)
            };
        };
        let text = || format!("{} [{}]", db.message(), db.code().code());
        match *db.code() {
            SqlState::QUERY_CANCELED | SqlState::LOCK_NOT_AVAILABLE => Self::TimedOut,
            SqlState::NO_DATA_FOUND => Self::NotFound(text()),
            SqlState::UNDEFINED_TABLE
            | SqlState::UNDEFINED_FUNCTION
            | SqlState::UNDEFINED_COLUMN
            | SqlState::INVALID_SCHEMA_NAME => Self::NotMigrated(text()),
            SqlState::ADMIN_SHUTDOWN
            | SqlState::CRASH_SHUTDOWN
            | SqlState::CANNOT_CONNECT_NOW
            | SqlState::TOO_MANY_CONNECTIONS
            | SqlState::T_R_SERIALIZATION_FAILURE
            | SqlState::T_R_DEADLOCK_DETECTED => Self::Unavailable(text()),
            ref code if code.code().starts_with("08") => Self::Unavailable(text()),
            _ => Self::Failed(text()),
        }
    }
}

impl From<PoolError> for ReadError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Timeout(kind) => Self::Unavailable(format!("no connection in time ({kind:?})")),
            // A fault while connecting (a wrong password, a missing database) is no fault of the request.
            PoolError::Backend(error) => Self::Unavailable(crate::error::Error::from(error).to_string()),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl From<ReadError> for crate::error::Error {
    fn from(error: ReadError) -> Self {
        let text = error.to_string();
        match error {
            ReadError::UnknownStore(_) => Self::usage(text).with_hint("`pulso kpi` without --store lists the stores."),
            ReadError::Unavailable(_) => Self::unavailable(text),
            ReadError::NotMigrated(_) => Self::failed(text).with_hint("Run `pulso migrate up`."),
            ReadError::TimedOut | ReadError::NotFound(_) | ReadError::Failed(_) => Self::failed(text),
        }
    }
}
