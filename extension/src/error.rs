//! What the engine refuses, and how it says so: a SQLSTATE, the offending text and a cure.

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use thiserror::Error;

/// A refusal. `docs/engine.md` lists them; a test compares.
#[derive(Debug, Error)]
pub enum Refusal {
    #[error("a rollup's query cannot have {construct}")]
    Construct { construct: &'static str, hint: &'static str },
    #[error("a rollup cannot contain {expression}: it is not immutable")]
    Mutable { expression: String },
    #[error("a rollup cannot contain the aggregate {expression}")]
    Aggregate { expression: String, hint: &'static str },
    #[error("a rollup cannot output {expression}")]
    Output { expression: String },
    #[error("a rollup cannot group by {expression}: {why}")]
    Key { expression: String, why: &'static str },
    #[error("a rollup cannot read {what}")]
    Source { what: String, hint: &'static str },
    #[error("a rollup cannot join {table}: {why}")]
    Join { table: String, why: String, hint: &'static str },
    #[error("a change of {table} would move more than {limit} rows of a rollup in one statement")]
    Moves { table: String, limit: i64 },
    #[error("triggers of joined tables changed {table} while the rollups were between two of its changes")]
    Entangled { table: String },
    #[error("could not serialize access due to a concurrent change of a joined table")]
    Serialization,
    #[error("the query of a rollup must be a single SELECT")]
    NotASelect,
    #[error("{view} is a part of rollup {whole}")]
    Part { view: String, whole: String },
    #[error("you must own {what}")]
    NotOwner { what: String },
    #[error("there is no rollup {name}")]
    NoRollup { name: String },
    #[error("relation {name} exists already")]
    NameTaken { name: String },
    #[error("{name} is not a valid name for a view")]
    BadName { name: String },
    #[error("{function} cannot run at this isolation level")]
    Isolation { function: &'static str },
    #[error("a partition of {table} cannot be detached concurrently: rollups are made of it")]
    Detach { table: String },
    #[error("{view} cannot be built anew: it may be all that is left of dropped chunks")]
    Kept { view: String },
    #[error("hypertable {table} cannot be captured by statement")]
    Mode { table: String },
    #[error("table {table} is busy: an open transaction has written to it")]
    Busy { table: String },
    #[error("{view} is busy: open transactions read it, or write to its table")]
    Readers { view: String },
    #[error("the extension's SQL is of version {installed}, its library of version {library}")]
    Outdated { installed: String, library: &'static str },
    #[error("the columns of {view} cannot change so: {difference}")]
    Columns { view: String, difference: String },
    #[error("{view} is not as Pulso has made it")]
    Rewritten { view: String },
    #[error("the table was changed by another transaction since this one began")]
    TruncateConflict,
}

impl Refusal {
    fn code(&self) -> PgSqlErrorCode {
        use PgSqlErrorCode as Code;
        match self {
            Self::Construct { .. }
            | Self::Mutable { .. }
            | Self::Aggregate { .. }
            | Self::Output { .. }
            | Self::Key { .. }
            | Self::Source { .. }
            | Self::Join { .. }
            | Self::Entangled { .. }
            | Self::Detach { .. }
            | Self::Kept { .. }
            | Self::Mode { .. } => Code::ERRCODE_FEATURE_NOT_SUPPORTED,
            Self::Busy { .. } | Self::Readers { .. } => Code::ERRCODE_LOCK_NOT_AVAILABLE,
            Self::Part { .. } => Code::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            Self::Outdated { .. } | Self::Rewritten { .. } => Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Self::Columns { .. } => Code::ERRCODE_INVALID_TABLE_DEFINITION,
            Self::NotASelect => Code::ERRCODE_SYNTAX_ERROR,
            Self::NotOwner { .. } => Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
            Self::NoRollup { .. } => Code::ERRCODE_UNDEFINED_TABLE,
            Self::NameTaken { .. } => Code::ERRCODE_DUPLICATE_TABLE,
            Self::BadName { .. } => Code::ERRCODE_INVALID_NAME,
            Self::Isolation { .. } => Code::ERRCODE_ACTIVE_SQL_TRANSACTION,
            Self::Moves { .. } => Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            Self::TruncateConflict | Self::Serialization => Code::ERRCODE_T_R_SERIALIZATION_FAILURE,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Construct { hint, .. } | Self::Aggregate { hint, .. } | Self::Source { hint, .. } => hint,
            Self::Join { hint, .. } => hint,
            Self::Mutable { .. } => {
                "The same row must give the same result at any time and in any session. Turn timestamptz into local time \
                 with AT TIME ZONE and a literal zone; keep now() and current_date for the query that reads the rollup."
            }
            Self::Output { .. } => {
                "Select grouping expressions and plain aggregates; compute from them in a view over the rollup."
            }
            Self::Key { .. } => "Cast it to a type with a default btree operator class.",
            Self::NotASelect => "Pass one SELECT … FROM one table … GROUP BY …, without a second statement.",
            Self::NotOwner { .. } => "Only the owner of the source table may keep a rollup of it.",
            Self::NoRollup { .. } => "The rollups are listed by: select name from pulso.rollups",
            Self::NameTaken { .. } => {
                "Choose another name, or drop what is there; a rollup goes by pulso.drop_rollup(name)."
            }
            Self::BadName { .. } => "Write it as schema.name, quoted where SQL asks for it.",
            Self::Isolation { .. } => "Call it in a READ COMMITTED transaction.",
            Self::Busy { .. } => {
                "Nothing was changed; try again. Asking longer would make every other writer wait as well. \
                 `pulso rollup` tries again by itself."
            }
            Self::Readers { .. } => {
                "Nothing was changed. With with_data => false, pulso.build(name) fills the new query without holding up \
                 writers, and can be called again when the view is free."
            }
            Self::Kept { .. } => {
                "Where what the chunks hold is enough: pulso.drop_rollup(name), then pulso.create_rollup(name, query)."
            }
            Self::Mode { .. } => {
                "It became a hypertable after its rollups were made. Drop them (pulso.drop_rollup) and create them again: its \
                 changes are then captured row by row."
            }
            Self::Detach { .. } => "Detach it without CONCURRENTLY, which takes its rows out of the rollups at once.",
            Self::Part { .. } => "Change or drop the whole.",
            Self::Outdated { .. } => "Run: alter extension pulso update",
            Self::Columns { .. } => {
                "Columns can only be added at the end, since other views may read the ones that are there. \
                 Make a rollup of another name, or drop this one and create it again."
            }
            Self::Rewritten { .. } => {
                "Another query would drop what somebody has put there. Conditions of the form select v.* from (the view's \
                 text) as v where … are kept; put anything else into a view over it, or drop the rollup and create it again."
            }
            Self::Moves { .. } => {
                "Change fewer rows at a time, or raise pulso.max_moved_rows. Where this happens often, group by the key \
                 and join the table in a view over the rollup."
            }
            Self::Entangled { .. } => {
                "Change the tables of a join in statements of their own, or in one, but not in triggers of each other."
            }
            Self::TruncateConflict | Self::Serialization => "Run the transaction again.",
        }
    }

    /// Raises it as a Postgres error.
    pub fn raise(&self) -> ! {
        ErrorReport::new(self.code(), self.to_string(), function_name!())
            .set_hint(self.hint())
            .report(PgLogLevel::ERROR);
        unreachable!("an error report of level ERROR does not return")
    }
}

/// Unwraps at the border to SQL.
pub trait OrRaise<T> {
    fn or_raise(self) -> T;
}

impl<T> OrRaise<T> for Result<T, Refusal> {
    fn or_raise(self) -> T {
        self.unwrap_or_else(|refusal| refusal.raise())
    }
}
