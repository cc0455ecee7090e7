//! The rounds of all pieces, their medians, and what is asked of them.

use super::{PEERS, Peer};
use crate::Outcome;
use crate::report::{machine, median, round, write_between};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::{self, Write};

const JSON: &str = "target/bench-peers.json";

/// What was measured, in each round, by name.
#[derive(Default, Serialize, Deserialize)]
pub struct Figures(BTreeMap<String, Vec<f64>>);

/// A figure with its target.
pub struct Target {
    piece: &'static str,
    name: String,
    value: f64,
    unit: &'static str,
    bound: f64,
    at_least: bool,
}

impl Target {
    pub fn is_met(&self) -> bool {
        if self.at_least { self.value >= self.bound } else { self.value <= self.bound }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (how, verdict) =
            (if self.at_least { "at least" } else { "at most" }, if self.is_met() { "met" } else { "**missed**" });
        write!(f, "| {} | {} {} | {how} {} | {verdict} |", self.name, round(self.value), self.unit, self.bound)
    }
}

/// The columns of the table of tickets: figure, and what it is called there.
const COLUMNS: [(&str, &str); 9] = [
    ("per_second", "tickets/s"),
    ("p50", "p50 ms"),
    ("p99", "p99 ms"),
    ("cpu", "µs of CPU"),
    ("read_p50", "read p50 ms"),
    ("read_p99", "read p99 ms"),
    ("stale", "stale s"),
    ("deadlocks", "deadlocks"),
    ("failed", "failed"),
];

impl Figures {
    pub fn load() -> Outcome<Self> {
        match std::fs::read_to_string(JSON) {
            Ok(text) => Ok(serde_json::from_str(&text)?),
            Err(_) => Ok(Self::default()),
        }
    }

    pub fn save(&self) -> Outcome<()> {
        std::fs::create_dir_all("target")?;
        Ok(std::fs::write(JSON, serde_json::to_string_pretty(&self.0)?)?)
    }

    pub fn add(&mut self, name: String, value: f64) {
        println!("  {name}: {}", round(value));
        self.0.entry(name).or_default().push(value);
    }

    pub fn median(&self, name: &str) -> Option<f64> {
        self.0.get(name).map(|values| median(values))
    }

    /// The median over rounds of the quotient of two figures, each round by itself: both sides saw the same machine.
    fn ratio(&self, over: &str, under: &str) -> Option<f64> {
        let (over, under) = (self.0.get(over)?, self.0.get(under)?);
        Some(median(&over.iter().zip(under).map(|(over, under)| over / under).collect::<Vec<_>>()))
    }

    pub fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        let mut add = |piece, name: String, value: Option<f64>, unit, bound, at_least| {
            targets.extend(value.map(|value| Target { piece, name, value, unit, bound, at_least }));
        };
        for (commit, of_none) in [("0 ms", 0.75), ("2 ms", 0.90)] {
            for clients in [8, 32] {
                let of = |peer| ticket(commit, clients, peer, "per_second");
                add(
                    "tickets",
                    format!("{commit}, {clients} clients: Pulso against no trigger"),
                    self.ratio(&of(Peer::Pulso), &of(Peer::None)),
                    "times",
                    of_none,
                    true,
                );
            }
        }
        for peer in [Peer::Upsert, Peer::PgIvm] {
            let of = |peer| ticket("2 ms", 32, peer, "per_second");
            let ratio = self.ratio(&of(Peer::Pulso), &of(peer));
            add("tickets", format!("2 ms, 32 clients: Pulso against {}", peer.name()), ratio, "times", 5.0, true);
        }
        let p99 = |peer| self.median(&ticket("2 ms", 32, peer, "p99"));
        let added = p99(Peer::Pulso).zip(p99(Peer::None)).map(|(with, without)| with - without);
        add("tickets", "2 ms, 32 clients: added to a ticket's p99 by Pulso".into(), added, "ms", 1.0, false);
        add(
            "build",
            "build of 10 million rows against the bare group by".into(),
            self.median("build ratio"),
            "times",
            1.5,
            false,
        );
        targets
    }

    /// Writes what each piece has measured in its own place; what was not measured stays as it is there.
    pub fn write_markdown(&self) -> Outcome<()> {
        for piece in ["tickets", "bulk", "build"] {
            let of_piece = |name: &str| name.starts_with(piece);
            let Some(rounds) = self.0.iter().filter(|(name, _)| of_piece(name)).map(|(_, values)| values.len()).min()
            else {
                continue;
            };
            let mut text = format!("\n{} PostgreSQL 18; rounds: {rounds}.\n", machine());
            match piece {
                "tickets" => {
                    for commit in ["0 ms", "2 ms"] {
                        self.write_tickets(&mut text, commit)?;
                    }
                }
                "bulk" => self.write_bulk(&mut text)?,
                _ => {
                    if let (Some(bare), Some(build)) = (self.median("build bare"), self.median("build pulso")) {
                        writeln!(
                            text,
                            "\nBuild over 10 million rows: {build:.1} s; the bare `group by`: {bare:.1} s."
                        )?;
                    }
                }
            }
            let targets: Vec<Target> = self.targets().into_iter().filter(|target| target.piece == piece).collect();
            if !targets.is_empty() {
                writeln!(text, "\n| target | measured | asked | |\n|---|---|---|---|")?;
            }
            for target in targets {
                writeln!(text, "{target}")?;
            }
            let begin = format!("<!-- peers, {piece}: written by `make bench-peers` -->");
            write_between(&begin, &format!("<!-- end of peers, {piece} -->"), &text)?;
        }
        Ok(())
    }

    fn write_tickets(&self, text: &mut String, commit: &str) -> Outcome<()> {
        let titles: Vec<&str> = COLUMNS.iter().map(|(_, title)| *title).collect();
        writeln!(text, "\nTickets, commits that return in {commit}:\n")?;
        writeln!(text, "| clients | | {} |\n|---|---|{}", titles.join(" | "), "---|".repeat(COLUMNS.len()))?;
        for clients in super::tickets::CLIENTS {
            for peer in PEERS {
                let cells = COLUMNS.map(|(figure, _)| {
                    self.median(&ticket(commit, clients, peer, figure)).map(round).unwrap_or_default()
                });
                if cells.iter().any(|cell| !cell.is_empty()) {
                    writeln!(text, "| {clients} | {} | {} |", peer.name(), cells.join(" | "))?;
                }
            }
        }
        Ok(())
    }

    fn write_bulk(&self, text: &mut String) -> Outcome<()> {
        writeln!(text, "\nOne statement over many lines, ms:\n")?;
        let names = super::bulk::PEERS.map(Peer::name).join(" | ");
        writeln!(text, "| statement | rows | {names} |\n|---|---|{}", "---|".repeat(super::bulk::PEERS.len()))?;
        for statement in super::bulk::STATEMENTS {
            for rows in super::bulk::ROWS {
                let cells = super::bulk::PEERS
                    .map(|peer| self.median(&super::bulk::name(statement, rows, peer)).map(round).unwrap_or_default());
                writeln!(text, "| {statement} | {rows} | {} |", cells.join(" | "))?;
            }
        }
        Ok(())
    }
}

/// The name of a figure of tickets.
pub fn ticket(commit: &str, clients: u32, peer: Peer, figure: &str) -> String {
    format!("tickets, {commit}, {clients} clients, {}: {figure}", peer.name())
}
