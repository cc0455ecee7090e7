//! What `plan`, `up` and `status` print.

use crate::error::{Error, Result};
use serde::Serialize;
use std::fmt;

#[derive(Debug, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum StepState {
    Pending,
    Applied { on: String },
}

#[derive(Debug, Serialize)]
pub struct Step {
    pub name: String,
    pub locks: String,
    pub undo: String,
    #[serde(flatten)]
    pub state: StepState,
}

#[derive(Debug, Serialize)]
pub struct PackState {
    pub name: &'static str,
    pub purpose: &'static str,
    /// Why the pack does not apply to this database.
    pub skipped: Option<String>,
    pub steps: Vec<Step>,
}

/// Where a database stands.
#[derive(Debug, Serialize)]
pub struct State {
    pub packs: Vec<PackState>,
    /// Contract files to be applied.
    pub contract: Vec<String>,
    /// All that stands in the way of `up`.
    pub blocked: Vec<String>,
    /// What this run of `up` has applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_now: Option<Vec<String>>,
}

impl State {
    pub fn refuse_if_blocked(&self) -> Result<()> {
        if self.blocked.is_empty() {
            return Ok(());
        }
        Err(Error::failed(format!("this database cannot be migrated yet:\n  - {}", self.blocked.join("\n  - ")))
            .with_hint("Nothing was changed. `pulso migrate plan` shows this list too."))
    }

    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|error| Error::failed(error.to_string()))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for pack in &self.packs {
            writeln!(f, "{} — {}", pack.name, pack.purpose)?;
            if let Some(reason) = &pack.skipped {
                writeln!(f, "  skipped: {reason}")?;
                continue;
            }
            for step in &pack.steps {
                match &step.state {
                    StepState::Applied { on } => writeln!(f, "  applied  {}  ({on})", step.name)?,
                    StepState::Pending => {
                        writeln!(f, "  pending  {}", step.name)?;
                        writeln!(f, "           locks: {}", step.locks)?;
                        writeln!(f, "           undo:  {}", step.undo)?;
                    }
                }
            }
        }
        writeln!(f, "contract — views and functions in schema analytics, re-applied when their text changes")?;
        match self.contract.as_slice() {
            [] => writeln!(f, "  up to date")?,
            files => writeln!(f, "  pending  {}", files.join(", "))?,
        }
        for reason in &self.blocked {
            writeln!(f, "blocked: {reason}")?;
        }
        if let Some(applied) = &self.applied_now {
            writeln!(f, "{} steps applied now", applied.len())?;
        }
        Ok(())
    }
}
