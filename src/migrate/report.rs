//! What `plan`, `up`, `undo` and `status` print.

use super::packs::{Kind, PACKS, Step, UNDER_CONTRACT};
use super::tier::Tier;
use crate::error::{Error, Result};
use indicatif::HumanCount;
use serde::Serialize;
use std::fmt;

#[derive(Debug, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum StepState {
    Pending,
    Applied {
        on: String,
        /// Who did it and how long it took, where that was noted.
        by: Option<String>,
        ms: Option<i64>,
    },
    Skipped {
        reason: String,
    },
}

/// A table that a step works on, and about how many rows it has.
#[derive(Debug, Serialize)]
pub struct TableRows {
    pub name: String,
    pub rows: Option<i64>,
}

#[derive(Debug, Serialize)]
pub struct StepView {
    pub name: String,
    pub locks: String,
    pub undo: String,
    /// Not in a transaction, while everybody goes on.
    pub online: bool,
    pub tables: Vec<TableRows>,
    #[serde(flatten)]
    pub state: StepState,
    #[serde(skip)]
    pub run: Run,
}

/// What a step runs.
#[derive(Debug)]
pub enum Run {
    /// A file's text.
    File(Box<Step>),
    /// The rollup of this name is there and is to be filled.
    Build(String),
    /// The continuous aggregate of this name is there and is to be filled.
    Fill(String),
    /// The extension is older than its files on the server.
    Update,
}

impl StepView {
    pub fn build(name: String) -> Self {
        let locks = "none; until it is built the view runs its query";
        Self::without_file(format!("build {name}"), locks, "with the rollup", Run::Build(name))
    }

    pub fn fill(name: String) -> Self {
        let locks = "none; until it is filled each read adds the rows up";
        Self::without_file(format!("fill {name}"), locks, "with the rollup", Run::Fill(name))
    }

    pub fn update(from: &str, to: &str) -> Self {
        let locks = "none on the shop's tables";
        Self::without_file(
            format!("update the engine from {from} to {to}"),
            locks,
            "none: older ones are not kept",
            Run::Update,
        )
    }

    fn without_file(name: String, locks: &str, undo: &str, run: Run) -> Self {
        let (locks, undo) = (locks.to_owned(), undo.to_owned());
        Self { name, locks, undo, online: true, tables: Vec::new(), state: StepState::Pending, run }
    }

    pub fn step(&self) -> Option<&Step> {
        match &self.run {
            Run::File(step) => Some(step),
            _ => None,
        }
    }

    pub fn pending(&self) -> bool {
        matches!(self.state, StepState::Pending)
    }

    pub fn applied(&self) -> bool {
        matches!(self.state, StepState::Applied { .. })
    }
}

#[derive(Debug, Serialize)]
pub struct PackState {
    pub name: &'static str,
    pub purpose: &'static str,
    /// Why the pack does not apply to this database.
    pub skipped: Option<String>,
    pub steps: Vec<StepView>,
}

impl PackState {
    /// Nothing of it is to be done.
    pub fn complete(&self) -> bool {
        self.skipped.is_some() || !self.steps.iter().any(StepView::pending)
    }
}

/// Where a database stands.
#[derive(Debug, Serialize)]
pub struct State {
    pub tier: Tier,
    pub packs: Vec<PackState>,
    /// Contract files to be applied.
    pub contract: Vec<String>,
    /// All that stands in the way of `up`.
    pub blocked: Vec<String>,
    /// What does not stand in the way, but is worth a look before.
    pub doubts: Vec<String>,
    /// The packs that were asked for; all if there are none.
    #[serde(skip)]
    pub only: Vec<String>,
    /// What this run of `up` has applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_now: Option<Vec<String>>,
}

impl State {
    pub fn wants(&self, pack: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == pack)
    }

    /// Steps that `up` would apply, by name.
    pub fn pending(&self) -> Vec<String> {
        let mut pending = Vec::new();
        for pack in self.packs.iter().filter(|pack| pack.skipped.is_none() && self.wants(pack.name)) {
            pending.extend(
                pack.steps.iter().filter(|step| step.pending()).map(|step| format!("{} {}", pack.name, step.name)),
            );
            if pack.name == UNDER_CONTRACT {
                pending.extend(self.contract.iter().map(|file| format!("contract {file}")));
            }
        }
        pending
    }

    pub fn refuse_if_blocked(&self) -> Result<()> {
        for pack in PACKS.iter().filter(|pack| self.wants(pack.name)) {
            for needed in pack.needs.iter().filter(|needed| !self.wants(needed)) {
                if self.packs.iter().any(|state| state.name == *needed && !state.complete()) {
                    return Err(Error::usage(format!("pack {} needs pack {needed}, which is not applied", pack.name))
                        .with_hint(format!("pulso migrate up {needed} {}", self.only.join(" "))));
                }
            }
        }
        if self.blocked.is_empty() {
            return Ok(());
        }
        Err(Error::failed(format!("this database cannot be migrated yet:\n  - {}", self.blocked.join("\n  - ")))
            .with_hint(
                "Nothing was changed. `pulso migrate plan` shows this list too; docs/adopt.md tells how to mend it.",
            ))
    }

    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|error| Error::failed(error.to_string()))
    }

    /// The SQL that `up` would run, in its order.
    pub fn script(&self) -> String {
        let mut script = String::new();
        for pack in self.packs.iter().filter(|pack| pack.skipped.is_none() && self.wants(pack.name)) {
            for view in pack.steps.iter().filter(|step| step.pending()) {
                script += &format!("-- ==== {} {}\n", pack.name, view.name);
                match &view.run {
                    Run::File(step) if matches!(step.kind, Kind::Online(_)) => {
                        script += &format!(
                            "-- statement by statement, in no transaction; what is there already is left out\n{}\n",
                            step.sql
                        );
                    }
                    Run::File(step) if step.sql.contains("pulso.create_rollup(") => {
                        script +=
                            &format!("-- where there are rows: with_data => false, then pulso.build\n{}\n", step.sql);
                    }
                    Run::File(step) => {
                        let engine = self.tier.engine().filter(|_| step.installs_engine());
                        script += &format!("begin;\n{}\ncommit;\n\n", engine.unwrap_or(&step.sql).trim_end());
                    }
                    Run::Fill(name) => {
                        script += &format!(
                            "call refresh_continuous_aggregate('{name}', null, now() - interval '1 hour');\n\n"
                        );
                    }
                    Run::Build(name) => script += &format!("select pulso.build('{name}');\n\n"),
                    Run::Update => script += "alter extension pulso update;\n\n",
                }
            }
            if pack.name == UNDER_CONTRACT && !self.contract.is_empty() {
                script += &format!("-- ==== contract: {}\n", self.contract.join(", "));
                script += &format!("begin;\n{}commit;\n\n", super::contract::script());
            }
        }
        if !script.is_empty() && self.wants("core") {
            script += &format!("-- ==== contract: scope of what the packs have made\n{};\n", super::contract::SCOPE);
        }
        script
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "tier {}", self.tier)?;
        for pack in self.packs.iter().filter(|pack| self.wants(pack.name)) {
            writeln!(f, "{} — {}", pack.name, pack.purpose)?;
            if let Some(reason) = &pack.skipped {
                writeln!(f, "  skipped: {reason}")?;
                continue;
            }
            for step in &pack.steps {
                step.fmt(f)?;
            }
            if pack.name == UNDER_CONTRACT {
                writeln!(f, "contract — views and functions in schema analytics, re-applied when their text changes")?;
                match self.contract.as_slice() {
                    [] => writeln!(f, "  up to date")?,
                    files => writeln!(f, "  pending  {}", files.join(", "))?,
                }
            }
        }
        for reason in &self.blocked {
            writeln!(f, "blocked: {reason}")?;
        }
        for doubt in &self.doubts {
            writeln!(f, "look at: {doubt}")?;
        }
        if let Some(applied) = &self.applied_now {
            writeln!(f, "{} steps applied now", applied.len())?;
        }
        Ok(())
    }
}

impl fmt::Display for StepView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            StepState::Applied { on, by, ms } => {
                write!(f, "  applied  {}  ({on}", self.name)?;
                if let Some(by) = by {
                    write!(f, " by {by}")?;
                }
                if let Some(ms) = ms {
                    write!(f, ", {ms} ms")?;
                }
                writeln!(f, ")")
            }
            StepState::Skipped { reason } => writeln!(f, "  skipped  {}  ({reason})", self.name),
            StepState::Pending => {
                writeln!(f, "  pending  {}{}", self.name, if self.online { "  (online)" } else { "" })?;
                let tables: Vec<String> = self
                    .tables
                    .iter()
                    .map(|table| match table.rows {
                        Some(rows) => format!("{} ({} rows)", table.name, HumanCount(rows.unsigned_abs())),
                        None => format!("{} (not analyzed yet)", table.name),
                    })
                    .collect();
                if !tables.is_empty() {
                    writeln!(f, "           tables: {}", tables.join(", "))?;
                }
                writeln!(f, "           locks: {}", self.locks)?;
                writeln!(f, "           undo:  {}", self.undo)
            }
        }
    }
}
