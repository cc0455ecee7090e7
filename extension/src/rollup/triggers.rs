//! The triggers of tables that rollups read.

use super::{build, partitions};
use crate::pg::catalog::{self, Rollup};
use crate::pg::session::{self, Setting, arg};
use crate::pg::tree;
use pgrx::prelude::*;
use std::ffi::CStr;

/// What a trigger is for.
#[derive(Clone, Copy)]
enum Purpose {
    /// Counts what a statement changed.
    Capture,
    /// Negates what a TRUNCATE takes away; of the table whose rows are counted. Where that is partitioned, of each
    /// partition: a TRUNCATE of the whole fires those.
    Truncate,
    /// Notes that a statement begins, where tables are joined.
    Begin,
}

/// Name, purpose, and the rest of CREATE TRIGGER.
const TRIGGERS: [(&CStr, Purpose, &str, &str); 7] = [
    (c"pulso_insert", Purpose::Capture, "after insert", "referencing new table as pulso_new"),
    (c"pulso_update", Purpose::Capture, "after update", "referencing old table as pulso_old new table as pulso_new"),
    (c"pulso_delete", Purpose::Capture, "after delete", "referencing old table as pulso_old"),
    (c"pulso_truncate", Purpose::Truncate, "before truncate", ""),
    (c"pulso_begin_insert", Purpose::Begin, "before insert", ""),
    (c"pulso_begin_update", Purpose::Begin, "before update", ""),
    (c"pulso_begin_delete", Purpose::Begin, "before delete", ""),
];

/// Whether changes of a table are captured row by row: it is slower, and the only way for some tables.
pub fn is_by_row(table: pg_sys::Oid) -> bool {
    session::one::<String>("select pulso.capture_mode($1)", &[arg(table)]).as_deref() == Some("row")
}

/// Makes those that are missing, for a rollup of `source` with `joined`.
pub fn create(source: pg_sys::Oid, joined: &[pg_sys::Oid]) {
    let lines_by_row = is_by_row(source);
    let is_subscribed = session::one("select pulso.is_subscribed($1)", &[arg(source)]) == Some(true);
    let counted = std::iter::once(source).chain(partitions::of(source)).map(|table| (table, true));
    for (table, is_counted) in counted.chain(joined.iter().map(|table| (*table, false))) {
        let name = session::qualified_name(table);
        let by_row = is_counted && lines_by_row;
        for (trigger, purpose, when, rows) in TRIGGERS {
            let (wanted, function) = match purpose {
                // Postgres makes those of the partitions, and TimescaleDB those of the chunks.
                Purpose::Capture => (!by_row || !tree::is_partition(table), "capture"),
                Purpose::Truncate => (is_counted && !tree::is_partitioned(table), "capture"),
                Purpose::Begin => (!joined.is_empty() && (!by_row || !tree::is_partition(table)), "begin"),
            };
            let how = match purpose {
                Purpose::Capture | Purpose::Begin if by_row => "for each row".to_owned(),
                _ => format!("{rows} for each statement"),
            };
            if wanted && !catalog::has_trigger(table, trigger) {
                let trigger = trigger.to_string_lossy();
                session::run(
                    &format!("create trigger {trigger} {when} on {name} {how} execute function pulso.{function}()"),
                    &[],
                );
                // Whoever applies changes of another server fires no others.
                if is_subscribed {
                    session::run(&format!("alter table {name} enable always trigger {trigger}"), &[]);
                }
            }
        }
    }
}

/// Makes those of a rollup's table anew, as the table needs them now.
#[pg_extern(strict)]
pub fn renew_triggers(id: i32) {
    let Some(rollup) = build::by_id(id) else { return };
    let _path = Setting::pinned_path();
    sweep(rollup.source, &[]);
    let rollups = catalog::rollups();
    rollups.iter().filter(|other| other.reads(rollup.source)).for_each(|other| create(other.source, &other.joined));
    session::invalidate(rollup.source);
}

/// Drops those of a table, and of its partitions, that none of the rollups that remain needs.
pub fn sweep(table: pg_sys::Oid, rollups: &[Rollup]) {
    std::iter::once(table).chain(partitions::of(table)).for_each(|part| sweep_table(part, table, rollups));
}

/// Drops those of a table, part of `whole`, that none of the rollups that remain needs.
pub fn sweep_table(table: pg_sys::Oid, whole: pg_sys::Oid, rollups: &[Rollup]) {
    let name = session::qualified_name(table);
    for (trigger, purpose, ..) in TRIGGERS {
        let needed = rollups.iter().filter(|rollup| rollup.reads(whole)).any(|rollup| match purpose {
            Purpose::Capture => true,
            Purpose::Truncate => rollup.source == whole,
            Purpose::Begin => !rollup.joined.is_empty(),
        });
        if !needed && catalog::has_trigger(table, trigger) {
            session::run(&format!("drop trigger {} on {name}", trigger.to_string_lossy()), &[]);
        }
    }
}
