//! The change feed: which groups of which rollups have changed, told on channel `pulso_changes` by whoever folds.
//!
//! It follows visibility, not folding: a look announces the deltas of every generation that is closed, and those that
//! it can see of generations that a transaction still holds, so that one long import keeps nobody's news back. Every
//! fold looks first, with the same horizon: what it takes away has been announced, by it or by an earlier look.
//! Announcing a change twice is harmless; what this session has announced is forgotten wherever that is in doubt.

use super::fold::{Folding, expect_many, folding};
use crate::generation::{self, Horizon};
use crate::pg::plans::planned;
use crate::pg::session::{self, AsRole, Setting, arg};
use crate::pg::{as_of, xact};
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Deltas that one look reads of a rollup; where there are more, anything in it may have changed.
pub const ROWS_MAX: i64 = 5_000;
/// Groups named of a rollup in one notification.
const KEYS_MAX: usize = 100;
/// Groups that one look names: those of two generations have a name in each.
pub const GROUPS_MAX: usize = 2 * KEYS_MAX + 1;
/// What Postgres lets a notification hold is less than 8,000 bytes.
const PAYLOAD_MAX: usize = 7_900;

/// What this session has announced of a rollup: all of the generations up to `through`, but for those that were open
/// then; of these, so many rows.
struct Announced {
    through: i64,
    open: BTreeMap<i64, i64>,
}

/// Groups as JSON; `None` for any.
type Keys = Option<BTreeSet<String>>;

thread_local! {
    static ANNOUNCED: RefCell<HashMap<i32, Announced>> = RefCell::default();
    /// To be sent with this transaction, by the rollup's name as JSON.
    static CHANGES: RefCell<BTreeMap<String, Keys>> = const { RefCell::new(BTreeMap::new()) };
}

pub fn register() {
    xact::at_end(|committed| {
        CHANGES.with_borrow_mut(BTreeMap::clear);
        if !committed {
            ANNOUNCED.with_borrow_mut(HashMap::clear);
        }
    });
    // Changes not sent yet are those of other steps of a fold, which goes on.
    as_of::at_subabort(|_| ANNOUNCED.with_borrow_mut(HashMap::clear));
}

#[pg_extern(strict)]
fn has_news(id: i32) -> bool {
    let Some(folding) = folding(id) else { return false };
    let known = ANNOUNCED.with_borrow(|announced| {
        announced.get(&id).map(|known| (known.through, known.open.keys().copied().collect::<Vec<i64>>()))
    });
    let _path = Setting::pinned_path();
    let _role = AsRole::become_role(folding.rollup.owner);
    let found = |rows: pgrx::spi::SpiTupleTable<'_>| rows.first().get_one::<bool>().ok().flatten().unwrap_or(false);
    match known {
        None => planned(&folding.has_pending, &[], &[], found),
        Some((through, open)) => {
            let types = [PgBuiltInOids::INT8OID.oid(), PgBuiltInOids::INT8ARRAYOID.oid()];
            planned(&folding.has_news, &types, &[arg(through), arg(open)], found)
        }
    }
}

/// Notes what has changed in a rollup; where it is not `live`, that is anything at any time.
#[pg_extern(strict)]
fn look(id: i32, live: bool) {
    let Some(folding) = folding(id) else { return };
    if live {
        note_news(id, &folding, &generation::horizon());
    } else {
        note(&folding.name, None);
    }
}

/// Sends what has been noted in this transaction, as one notification; returns the number of rollups in it.
#[pg_extern]
fn send_changes() -> i64 {
    let mut changes = CHANGES.take();
    if changes.is_empty() {
        return 0;
    }
    let sequence: i64 = session::one("select pg_catalog.nextval('pulso.change')", &[])
        .unwrap_or_else(|| error!("nextval returned nothing"));
    let mut text = payload(sequence, &changes);
    // Whatever takes the most room is told in general.
    while text.len() > PAYLOAD_MAX {
        let size = |keys: &Keys| keys.as_ref().map_or(0, |keys| keys.iter().map(String::len).sum::<usize>());
        match changes.values_mut().max_by_key(|keys| size(keys)) {
            Some(keys) if keys.is_some() => *keys = None,
            _ => {
                text = format!("{{\"seq\":{sequence},\"changes\":null}}");
                break;
            }
        }
        text = payload(sequence, &changes);
    }
    session::run("select pg_catalog.pg_notify('pulso_changes', $1)", &[arg(text)]);
    changes.len() as i64
}

/// Announces with this transaction that anything in a rollup may have changed. As the extension's owner.
pub fn announce_all(view: &str) {
    note(&json(view), None);
    send_changes();
}

/// A text as JSON.
pub fn json(text: &str) -> String {
    session::one("select pg_catalog.to_json($1)::pg_catalog.text", &[arg(text.to_owned())])
        .unwrap_or_else(|| error!("no JSON for a text"))
}

fn payload(sequence: i64, changes: &BTreeMap<String, Keys>) -> String {
    let one = |(name, keys): (&String, &Keys)| {
        let keys = keys.as_ref().map_or_else(
            || "null".to_owned(),
            |keys| format!("[{}]", keys.iter().map(String::as_str).collect::<Vec<_>>().join(",")),
        );
        format!("{{\"rollup\":{name},\"keys\":{keys}}}")
    };
    let changes: Vec<String> = changes.iter().map(one).collect();
    format!("{{\"seq\":{sequence},\"changes\":[{}]}}", changes.join(","))
}

/// Notes what deltas up to the horizon change, and that they are announced.
pub fn note_news(id: i32, folding: &Folding, horizon: &Horizon) {
    let known = ANNOUNCED.with_borrow_mut(|announced| announced.remove(&id));
    let mut rows: BTreeMap<i64, i64> = BTreeMap::new();
    let mut rows_read = 0;
    let mut groups: Vec<(i64, Option<String>)> = Vec::new();
    {
        let _path = Setting::pinned_path();
        let _role = AsRole::become_role(folding.rollup.owner);
        let int8 = PgBuiltInOids::INT8OID.oid();
        let types = [int8, int8, PgBuiltInOids::INT8ARRAYOID.oid()];
        let (sql, args) = match &known {
            None => (&folding.news, vec![arg(horizon.through)]),
            Some(Announced { through, open }) => {
                let open: Vec<i64> = open.keys().copied().collect();
                (&folding.news_since, vec![arg(horizon.through), arg(*through), arg(open)])
            }
        };
        planned(sql, &types[..args.len()], &args, |table| {
            for row in table {
                let generation = row.get::<i64>(1).ok().flatten().unwrap_or(0);
                *rows.entry(generation).or_default() += row.get::<i64>(2).ok().flatten().unwrap_or(0);
                groups.push((generation, row.get::<String>(3).ok().flatten()));
                rows_read = row.get::<i64>(4).ok().flatten().unwrap_or(0);
            }
        });
    }
    if rows_read >= ROWS_MAX {
        expect_many(id);
    }
    let all_read = rows_read < ROWS_MAX && groups.len() < GROUPS_MAX;
    let before = |generation: &i64| known.as_ref().and_then(|known| known.open.get(generation));
    let is_new = |generation: &i64| before(generation) != rows.get(generation);
    let new: Vec<Option<String>> =
        groups.into_iter().filter(|(generation, _)| is_new(generation)).map(|(_, key)| key).collect();
    if !all_read {
        note(&folding.name, None);
    } else if !new.is_empty() {
        note(&folding.name, new.into_iter().collect());
    }
    // A number of rows that was not read to the end is that of no look.
    let count = |generation: &i64| if all_read { rows.get(generation).copied().unwrap_or(0) } else { -1 };
    let open = horizon.open.iter().map(|generation| (*generation, count(generation))).collect();
    ANNOUNCED.with_borrow_mut(|announced| announced.insert(id, Announced { through: horizon.through, open }));
}

/// Adds changed groups to what will be sent.
fn note(name: &str, keys: Keys) {
    CHANGES.with_borrow_mut(|changes| {
        let noted = changes.entry(name.to_owned()).or_insert_with(|| Some(BTreeSet::new()));
        match (noted.as_mut(), keys) {
            (Some(noted), Some(keys)) => noted.extend(keys),
            _ => *noted = None,
        }
        if noted.as_ref().is_some_and(|noted| noted.len() > KEYS_MAX) {
            *noted = None;
        }
    });
}
