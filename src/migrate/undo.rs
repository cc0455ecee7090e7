//! `pulso migrate undo`: takes a pack's steps back, last first, by the scripts in `sql/undo/`.

use super::convert::{self, Wanted};
use super::packs::{PACKS, Pack, Step, UNDER_CONTRACT, UNDO_CONTRACT};
use super::run::{Runner, SETTINGS, Stop};
use super::tier::Wish;
use super::{contract, inspect, log};
use crate::db;
use crate::error::{Error, Result};
use std::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

const DROP_INDEX: &str = "drop index concurrently";

/// A script that begins so is run statement by statement.
const ALONE: &str = "-- Not in a transaction.";

/// What is to be taken back.
pub struct Plan {
    pack: &'static Pack,
    steps: Vec<Step>,
    contract: bool,
}

impl Plan {
    /// The applied steps above `to`; refused while another pack rests on them.
    pub async fn make(client: &Client, name: &str, to: i32) -> Result<Self> {
        let pack = find(name)?;
        let tier = Wish::default().tier(client).await?;
        let logged = log::applied(client).await?;
        for other in PACKS.iter().filter(|other| other.needs.contains(&pack.name)) {
            if inspect::steps(client, other, &logged, false, tier).await?.steps.iter().any(|step| step.applied()) {
                return Err(Error::failed(format!("pack {} rests on pack {name}", other.name))
                    .with_hint(format!("First: pulso migrate undo {}", other.name)));
            }
        }
        let state = inspect::steps(client, pack, &logged, false, tier).await?;
        let history = inspect::history(client, pack).await?;
        let known: Vec<i32> = state.steps.iter().filter_map(|view| Some(view.step()?.version)).collect();
        if let Some(version) = history.keys().find(|version| !known.contains(version)) {
            return Err(Error::failed(format!(
                "pack {name} has step V{version}, which this version of Pulso does not know"
            ))
            .with_hint("The version that applied it can undo it."));
        }
        let begun = convert::begun(client).await?;
        let half_undone = log::half_undone(client).await?;
        let applied = state.steps.iter().filter(|view| {
            // Recorded in the log though its index is to be made anew: there is something to drop. So is half a copy.
            let hypertable = view.step().and_then(Step::hypertable);
            let key = (pack.name.to_owned(), view.name.clone());
            view.applied()
                || view.online && (logged.contains_key(&key) || half_undone.contains(&key))
                || hypertable.is_some_and(|wanted| begun.contains(&wanted.table))
        });
        let steps: Vec<Step> =
            applied.filter_map(|view| view.step().cloned()).filter(|step| step.version > to).rev().collect();
        let contract = pack.name == UNDER_CONTRACT && !steps.is_empty() && contract::exists(client).await?;
        Ok(Self { pack, steps, contract })
    }

    pub fn names(&self) -> Vec<String> {
        let contract = self.contract.then(|| "contract".to_owned());
        contract.into_iter().chain(self.steps.iter().map(ToString::to_string)).collect()
    }

    pub fn script(&self) -> String {
        let contract = self.contract.then(|| format!("-- ==== contract\nbegin;\n{UNDO_CONTRACT}commit;\n\n"));
        let steps = self.steps.iter().map(|step| {
            if step.undo.starts_with(ALONE) {
                return format!("-- ==== {step}\n{}\n", step.undo);
            }
            format!("-- ==== {step}\nbegin;\n{}commit;\n\n", step.undo)
        });
        contract.into_iter().chain(steps).collect()
    }

    pub async fn run(self, runner: &mut Runner<'_>, drop_data: bool) -> Result<(), Stop> {
        log::open(runner.client).await?;
        let setting = if drop_data { "on" } else { "off" };
        runner.client.batch_execute(&format!("set pulso_migrate.drop_data = '{setting}'")).await?;
        let outcome = self.all(runner).await;
        // What fails here is a lost connection.
        let _ = runner.client.batch_execute("reset pulso_migrate.drop_data").await;
        outcome
    }

    async fn all(&self, runner: &mut Runner<'_>) -> Result<(), Stop> {
        let table = self.pack.history_table();
        if self.contract {
            one(runner, "contract", "", UNDO_CONTRACT, "", None).await?;
        }
        for step in &self.steps {
            let forget = match step.online() {
                true => String::new(),
                false => format!("delete from {table} where version = {}", step.version),
            };
            one(runner, step.pack, &step.name, step.undo, &forget, step.hypertable()).await?;
        }
        let there = db::has(runner.client, &table).await?;
        if there {
            let sql =
                format!("do $$ begin if not exists (select from {table}) then drop table {table}; end if; end $$");
            runner.client.batch_execute(&sql).await?;
        }
        Ok(())
    }
}

pub fn find(name: &str) -> Result<&'static Pack> {
    PACKS.iter().find(|pack| pack.name == name).ok_or_else(|| {
        let names: Vec<&str> = PACKS.iter().map(|pack| pack.name).collect();
        Error::usage(format!("there is no pack {name}")).with_hint(format!("The packs are {}.", names.join(", ")))
    })
}

async fn one(
    runner: &mut Runner<'_>,
    pack: &str,
    step: &str,
    script: &str,
    forget: &str,
    hypertable: Option<&Wanted>,
) -> Result<(), Stop> {
    let what = format!("{pack} {step}");
    let begun = Instant::now();
    let entry = log::begin(runner.client, pack, step, "undo", None).await?;
    let mut tries = 0;
    let outcome = match hypertable {
        Some(wanted) => convert::back(runner, wanted).await,
        None => loop {
            match taken_back(runner, script, forget).await {
                Err(stop) if runner.again(&stop, &mut tries, &what).await? => (),
                outcome => break outcome,
            }
        },
    };
    let outcome = outcome.map_err(|stop| stop.context(format!("undo {what}")));
    runner.note(entry, &format!("undone: {}", what.trim_end()), begun, outcome).await
}

async fn taken_back(runner: &mut Runner<'_>, script: &str, forget: &str) -> Result<(), Stop> {
    if !script.starts_with(ALONE) {
        let outcome = runner.call(&format!("begin; {script}; {forget}; commit"), None).await;
        if outcome.is_err() {
            let _ = runner.client.batch_execute("rollback").await;
        }
        return outcome;
    }
    runner.client.batch_execute("set lock_timeout = 0").await?;
    let code: Vec<&str> = script.lines().filter(|line| !line.starts_with("--")).collect();
    for statement in code.join("\n").split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
        let outcome = runner.call(statement, None).await;
        // Of a hypertable no index is dropped concurrently: for milliseconds then, under a lock that is not waited for.
        match outcome {
            Err(stop) if stop.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED) && statement.starts_with(DROP_INDEX) => {
                runner.client.batch_execute(SETTINGS).await?;
                let plain = statement.replacen(DROP_INDEX, "drop index", 1);
                runner.bite(&plain, &plain).await?;
                runner.client.batch_execute("set lock_timeout = 0").await?;
            }
            outcome => outcome?,
        }
    }
    runner.client.batch_execute(SETTINGS).await?;
    if !forget.is_empty() {
        runner.client.batch_execute(forget).await?;
    }
    Ok(())
}
