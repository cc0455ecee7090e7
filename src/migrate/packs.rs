//! What there is to migrate: packs of refinery migrations, and the contract's files.

use refinery::{Migration, Runner};

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
    pub mod service {
        refinery::embed_migrations!("migrations/service");
    }
}

/// A pack: its migrations have a history table of their own, `pulso.migrations_<name>`.
pub struct Pack {
    pub name: &'static str,
    pub purpose: &'static str,
    runner: fn() -> Runner,
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

    pub fn migrations(&self) -> Vec<Migration> {
        let mut migrations = self.runner().get_migrations().clone();
        migrations.sort();
        migrations
    }
}

/// All packs, in the order in which they are applied.
pub const PACKS: [Pack; 5] = [
    Pack {
        name: "pos",
        purpose: "tables of a point of sale, for a new database",
        runner: embedded::pos::migrations::runner,
    },
    Pack { name: "core", purpose: "schemas and the engine", runner: embedded::core::migrations::runner },
    Pack { name: "indexes", purpose: "indexes for the shop's queries", runner: embedded::indexes::migrations::runner },
    Pack {
        name: "rollups",
        purpose: "numbers kept exact in the sale's transaction",
        runner: embedded::rollups::migrations::runner,
    },
    Pack {
        name: "service",
        purpose: "what the service and the worker keep: jobs, keys",
        runner: embedded::service::migrations::runner,
    },
];

/// The contract's objects, in the order in which they are applied: (file, text).
pub const CONTRACT: [(&str, &str); 16] = [
    ("10_sales_daily.sql", include_str!("../../sql/contract/10_sales_daily.sql")),
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

    #[test]
    fn every_migration_says_what_it_locks_and_how_it_is_undone() {
        for pack in PACKS {
            let migrations = pack.migrations();
            assert!(!migrations.is_empty(), "pack {} is empty", pack.name);
            for migration in migrations {
                let sql = migration.sql().unwrap_or_default();
                assert!(header(sql, "Locks:").is_some(), "{migration} does not say what it locks");
                assert!(header(sql, "Undo:").is_some(), "{migration} does not say how it is undone");
            }
        }
    }

    #[test]
    fn a_header_ends_where_the_next_begins() {
        let sql = "-- Makes x.\n-- Locks: ShareLock\n-- on t. Undo: drop it.\ncreate table x ();\n-- Locks: no\n";
        assert_eq!(header(sql, "Locks:").as_deref(), Some("ShareLock on t."));
        assert_eq!(header(sql, "Undo:").as_deref(), Some("drop it."));
    }
}
