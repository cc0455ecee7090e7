//! What there is to migrate: packs of steps, how each is undone, and the contract's files.

use super::convert::{self, Wanted};
use super::online::Statement;
use refinery::{Migration, Runner};
use std::fmt;

mod embedded {
    pub mod pos {
        refinery::embed_migrations!("migrations/pos");
    }
    pub mod core {
        refinery::embed_migrations!("migrations/core");
    }
    pub mod indexes {
        refinery::embed_migrations!("migrations/indexes");
    }
    pub mod rollups {
        refinery::embed_migrations!("migrations/rollups");
    }
    pub mod reports {
        refinery::embed_migrations!("migrations/reports");
    }
    pub mod service {
        refinery::embed_migrations!("migrations/service");
    }
    pub mod timescale {
        refinery::embed_migrations!("migrations/timescale");
    }
}

/// (name without its ending, text)
type Files = &'static [(&'static str, &'static str)];

macro_rules! files {
    ($dir:literal, $($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../", $dir, "/", $name, ".sql")))),*]
    };
}

/// A pack: a history table of its own, `pulso.migrations_<name>`, which refinery keeps.
pub struct Pack {
    pub name: &'static str,
    pub purpose: &'static str,
    /// Packs that must be applied before it.
    pub needs: &'static [&'static str],
    runner: fn() -> Runner,
    /// Steps that cannot run in a transaction: C<N> comes before V<N>.
    online: Files,
    undo: Files,
}

/// How a step runs.
#[derive(Debug, Clone)]
pub enum Kind {
    /// By refinery, in one transaction.
    Transaction,
    /// Statement by statement, each of which may be interrupted and is then done again.
    Online(Vec<Statement>),
}

#[derive(Debug, Clone)]
pub struct Step {
    pub pack: &'static str,
    /// As its file is named.
    pub name: String,
    pub version: i32,
    pub sql: String,
    /// As refinery computes it.
    pub checksum: u64,
    pub kind: Kind,
    pub undo: &'static str,
}

impl Pack {
    pub fn history_table(&self) -> String {
        format!("pulso.migrations_{}", self.name)
    }

    pub fn runner(&self) -> Runner {
        let mut runner = (self.runner)();
        runner.set_migration_table_name(self.history_table());
        runner
    }

    /// All steps, in the order in which they are applied.
    pub fn steps(&self) -> Vec<Step> {
        let runner = self.runner();
        let migrations = runner.get_migrations().iter().map(|migration| {
            let sql = migration.sql().unwrap_or_default().to_owned();
            self.step(migration.to_string(), migration, sql, Kind::Transaction)
        });
        let online = self.online.iter().filter_map(|(name, sql)| {
            // refinery's own checksum; it knows the letters U and V.
            let migration = Migration::unapplied(&format!("V{}.sql", name.trim_start_matches('C')), sql).ok()?;
            let statements = Statement::all(sql);
            Some(self.step((*name).to_owned(), &migration, (*sql).to_owned(), Kind::Online(statements)))
        });
        let mut steps: Vec<Step> = migrations.chain(online).collect();
        steps.sort_by(|a, b| (a.version, &a.name).cmp(&(b.version, &b.name)));
        steps
    }

    fn step(&self, name: String, migration: &Migration, sql: String, kind: Kind) -> Step {
        let number = name.split("__").next().unwrap_or_default();
        let undo = self.undo.iter().find(|(file, _)| *file == number).map_or("", |(_, text)| text);
        let (version, checksum) = (migration.version(), migration.checksum());
        Step { pack: self.name, version, name, sql, checksum, kind, undo }
    }
}

impl Step {
    /// On the tier plain something else is installed.
    pub fn installs_engine(&self) -> bool {
        self.pack == "core" && self.sql.contains("create extension")
    }

    /// The table that it makes a hypertable of.
    pub fn hypertable(&self) -> Option<&Wanted> {
        let Kind::Online(statements) = &self.kind else { return None };
        statements.iter().find_map(|statement| match statement {
            Statement::Hypertable(wanted) => Some(wanted),
            _ => None,
        })
    }

    pub fn online(&self) -> bool {
        matches!(self.kind, Kind::Online(_))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pack, self.name)
    }
}

/// The pack whose rollups the contract rests on: it is applied after that, and undone with it.
pub const UNDER_CONTRACT: &str = "rollups";

/// All packs, in the order in which they are applied.
pub const PACKS: &[Pack] = &[
    Pack {
        name: "pos",
        purpose: "tables of a point of sale, for a new database",
        needs: &[],
        runner: embedded::pos::migrations::runner,
        online: &[],
        undo: files!("sql/undo/pos", "V1", "V2", "V3"),
    },
    Pack {
        name: "core",
        purpose: "schemas and the engine",
        needs: &[],
        runner: embedded::core::migrations::runner,
        online: &[],
        undo: files!("sql/undo/core", "V1", "V2", "V3", "V4"),
    },
    Pack {
        name: "indexes",
        purpose: "indexes for the shop's queries",
        needs: &["pos"],
        runner: embedded::indexes::migrations::runner,
        online: files!(
            "migrations/online/indexes",
            "C1__index_sales_without_holding_writers",
            "C2__index_completed_sales_by_time",
            "C3__range_sales_by_time",
            "C4__index_lines_by_sale",
            "C5__index_events_by_type",
            "C6__range_events_by_time",
            "C7__range_movements_by_time",
            "C8__range_metrics_by_time",
            "C9__index_products_by_shop",
            "C10__index_heatmap_by_day",
        ),
        undo: files!("sql/undo/indexes", "V1", "C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9", "C10"),
    },
    Pack {
        name: convert::PACK,
        purpose: "hypertables, where TimescaleDB is",
        needs: &["pos", "core"],
        runner: embedded::timescale::migrations::runner,
        online: files!(
            "migrations/online/timescale",
            "C2__events_by_week",
            "C3__movements_by_week",
            "C4__metrics_by_day",
            "C5__sales_by_week",
        ),
        undo: files!("sql/undo/timescale", "V1", "C2", "C3", "C4", "C5"),
    },
    Pack {
        name: UNDER_CONTRACT,
        purpose: "numbers kept exact in the sale's transaction",
        needs: &["pos", "core"],
        runner: embedded::rollups::migrations::runner,
        online: files!("migrations/online/rollups", "C2__make_the_joins_changes_wait_for_lines"),
        undo: files!("sql/undo/rollups", "V1", "V2", "C2", "V3"),
    },
    Pack {
        name: "reports",
        purpose: "reports, refreshed from time to time",
        needs: &["rollups"],
        runner: embedded::reports::migrations::runner,
        online: files!("migrations/online/reports", "C2__fill_the_reports"),
        undo: files!("sql/undo/reports", "V1", "C2", "V3"),
    },
    Pack {
        name: "service",
        purpose: "what the service and the worker keep: jobs, keys",
        needs: &["core"],
        runner: embedded::service::migrations::runner,
        online: &[],
        undo: files!("sql/undo/service", "V1", "V2", "V3", "V4", "V5", "V6", "V7"),
    },
];

/// The contract's objects, in the order in which they are applied: (file, text).
pub const CONTRACT: &[(&str, &str)] = &[
    ("05_stores.sql", include_str!("../../sql/contract/05_stores.sql")),
    ("10_sales_daily.sql", include_str!("../../sql/contract/10_sales_daily.sql")),
    ("11_sales_monthly.sql", include_str!("../../sql/contract/11_sales_monthly.sql")),
    ("20_product_sales_daily.sql", include_str!("../../sql/contract/20_product_sales_daily.sql")),
    ("30_business_date.sql", include_str!("../../sql/contract/30_business_date.sql")),
    ("40_dashboard.sql", include_str!("../../sql/contract/40_dashboard.sql")),
    ("50_sales_breakdown.sql", include_str!("../../sql/contract/50_sales_breakdown.sql")),
    ("51_category_mix.sql", include_str!("../../sql/contract/51_category_mix.sql")),
    ("52_payment_mix.sql", include_str!("../../sql/contract/52_payment_mix.sql")),
    ("53_sales_heatmap.sql", include_str!("../../sql/contract/53_sales_heatmap.sql")),
    ("54_customer_summary.sql", include_str!("../../sql/contract/54_customer_summary.sql")),
    ("55_cashier_performance.sql", include_str!("../../sql/contract/55_cashier_performance.sql")),
    ("56_inventory.sql", include_str!("../../sql/contract/56_inventory.sql")),
    ("57_chain.sql", include_str!("../../sql/contract/57_chain.sql")),
    ("58_product_abc.sql", include_str!("../../sql/contract/58_product_abc.sql")),
    ("59_customer_scores.sql", include_str!("../../sql/contract/59_customer_scores.sql")),
    ("60_product_xyz.sql", include_str!("../../sql/contract/60_product_xyz.sql")),
    ("61_product_affinity.sql", include_str!("../../sql/contract/61_product_affinity.sql")),
];
pub const UNDO_CONTRACT: &str = include_str!("../../sql/undo/contract.sql");

/// The paragraph of a migration's opening comment that begins with `label`, as one line.
pub fn header(sql: &str, label: &str) -> Option<String> {
    let mut lines =
        sql.lines().take_while(|line| line.starts_with("--")).map(|line| line.trim_start_matches('-').trim());
    let first = lines.by_ref().find_map(|line| line.split_once(label).map(|(_, rest)| rest))?;
    let mut text = first.trim().to_owned();
    for line in lines.take_while(|line| !line.starts_with("Undo:") && !line.starts_with("Locks:")) {
        text.push(' ');
        text.push_str(line);
    }
    let text = text.split(" Undo:").next().unwrap_or_default().trim().to_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn every_step_says_what_it_locks_and_how_it_is_undone() {
        for pack in PACKS {
            let steps = pack.steps();
            assert!(!steps.is_empty(), "pack {} is empty", pack.name);
            for step in steps {
                assert!(header(&step.sql, "Locks:").is_some(), "{step} does not say what it locks");
                assert!(header(&step.sql, "Undo:").is_some(), "{step} does not say how it is undone");
                let number = step.name.split("__").next().unwrap_or_default();
                assert!(!step.undo.is_empty(), "{step} has no script sql/undo/{}/{number}.sql", pack.name);
                if let Kind::Online(statements) = &step.kind {
                    let text = step.sql.lines().filter(|line| !line.starts_with("--")).collect::<String>();
                    assert_eq!(statements.len(), text.matches(';').count(), "{step} has a statement of another kind");
                }
            }
        }
    }

    #[test]
    fn a_header_ends_where_the_next_begins() {
        let sql = "-- Makes x.\n-- Locks: ShareLock\n-- on t. Undo: drop it.\ncreate table x ();\n-- Locks: no\n";
        assert_eq!(header(sql, "Locks:").as_deref(), Some("ShareLock on t."));
        assert_eq!(header(sql, "Undo:").as_deref(), Some("drop it."));
    }

    #[test]
    fn no_file_is_forgotten() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let stems = |dir: String| -> BTreeSet<String> {
            let Ok(entries) = std::fs::read_dir(root.join(&dir)) else { return BTreeSet::new() };
            entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect()
        };
        let names = |files: Files| files.iter().map(|(name, _)| (*name).to_owned()).collect::<BTreeSet<_>>();
        for pack in PACKS {
            assert_eq!(names(pack.online), stems(format!("migrations/online/{}", pack.name)), "online {}", pack.name);
            assert_eq!(names(pack.undo), stems(format!("sql/undo/{}", pack.name)), "undo {}", pack.name);
        }
        let contract: BTreeSet<String> =
            CONTRACT.iter().map(|(file, _)| file.trim_end_matches(".sql").into()).collect();
        assert_eq!(contract, stems("sql/contract".into()));
    }

    /// A migration that is released is never edited: databases that have it would not have the change.
    #[test]
    fn migrations_are_as_they_were_released() {
        let frozen: Vec<&str> = include_str!("../../migrations/frozen.lock")
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .collect();
        let steps: Vec<Step> = PACKS.iter().flat_map(Pack::steps).collect();
        let now: Vec<String> = steps.iter().map(|step| format!("{step} {}", step.checksum)).collect();
        let new: Vec<&String> = now.iter().filter(|line| !frozen.contains(&line.as_str())).collect();
        let gone: Vec<&&str> = frozen.iter().filter(|line| !now.iter().any(|now| now == *line)).collect();
        assert!(
            new.is_empty() && gone.is_empty(),
            "migrations/frozen.lock has {gone:#?}\nthe files are {new:#?}\nA released migration is not edited: add \
             another after it. For one that is new, or not released yet, write the second list into frozen.lock."
        );
    }
}
