//! Capture for a rollup over joined tables: which joined rows a statement took away, and which it put there.

use super::groups::Groups;
use super::sql::Sql;
use super::underway::Counting;
use crate::error::{OrRaise, Refusal};
use crate::pg::as_of;
use crate::pg::joined_row::{JoinedRow, columns_of};
use crate::pg::lookup::{Lookup, Value};
use crate::pg::memory::Memory;
use crate::pg::project::{Columns, Projector};
use crate::pg::query::{Definition, Edge, column_type};
use crate::pg::select::Select;
use crate::pg::session::{self, AsRole, Setting};
use crate::pg::transition::{Event, TriggerCall};
use crate::pg::value::Passing;
use crate::{pg::xact, settings};
use pgrx::pg_sys;
use std::cell::OnceCell;
use std::collections::HashMap;

/// Rows of joined tables that are remembered within a statement.
const REMEMBERED_MAX: usize = 10_000;

/// A joined rollup made ready for capture.
pub struct Joined {
    owner: pg_sys::Oid,
    tables: Vec<Table>,
    row: JoinedRow,
    /// What [`Lookup`]s of the statement at hand found, and the memory of it.
    found: HashMap<Vec<u8>, Option<Vec<Value>>>,
    memory: Memory,
}

struct Table {
    relation: pg_sys::Oid,
    columns: Vec<i16>,
    offset: usize,
    /// The command before which its changes are counted.
    counted_before: u32,
    /// Absent for the table whose rows are counted.
    join: Option<Join>,
}

struct Join {
    lookup: Lookup,
    /// The table that refers to this one.
    from: usize,
    /// Where the key is in a joined row, and how it is passed.
    key: Vec<(usize, Passing)>,
    /// The columns of the table that the key refers to.
    referred: Vec<(i16, Passing)>,
    /// How the columns that the rollup reads are passed.
    passing: Vec<Passing>,
    /// Finds the rows that refer to one of this table.
    referring: Referring,
}

/// A statement that is planned when first needed.
struct Referring {
    sql: String,
    types: Vec<pg_sys::Oid>,
    /// How its columns are passed, after the place: those of a joined row, then the key.
    columns: Vec<Passing>,
    select: OnceCell<Select>,
}

/// Rows of the tables up to a joined one that belong together, as they are found from there down.
struct Chain {
    /// Of each table, the one that was found first at the start.
    rows: Vec<Vec<Value>>,
    /// The key of the last.
    key: Vec<Value>,
}

/// A row of a joined table that a statement took away (-1) or put there (1).
struct Image {
    count: i64,
    columns: Vec<Value>,
}

impl Joined {
    pub fn new(definition: &Definition, sql: &Sql<'_>, owner: pg_sys::Oid) -> Result<Self, Refusal> {
        let tables = definition
            .tables
            .iter()
            .enumerate()
            .map(|(number, table)| {
                let join = match (Lookup::new(table)?, &table.edge) {
                    (Some(lookup), Some(edge)) => Some(Join::new(definition, sql, number, edge, lookup)),
                    _ => None,
                };
                Ok(Table {
                    relation: table.relation,
                    columns: table.columns.clone(),
                    offset: table.offset,
                    counted_before: 0,
                    join,
                })
            })
            .collect::<Result<_, Refusal>>()?;
        Ok(Self {
            owner,
            tables,
            row: JoinedRow::new(definition),
            found: HashMap::new(),
            memory: Memory::new(c"pulso joined rows"),
        })
    }

    /// Nets what the statement changed, in `groups`. `false` where it changed nothing that the rollup reads.
    pub fn collect(
        &mut self,
        call: &TriggerCall,
        counting: &Counting,
        projector: &mut Projector,
        columns: &Columns,
        groups: &mut Groups,
    ) -> bool {
        // A statement that failed may have left what it found.
        self.forget();
        let table = call.table();
        let touched = match self.tables.iter().position(|joined| joined.relation == table) {
            Some(0) => as_of::in_snapshot(false, || self.collect_lines(call, counting, projector, columns, groups)),
            Some(number) => self.collect_moves(call, counting, number, projector, columns, groups),
            None => false,
        };
        self.forget();
        touched
    }

    /// Notes which changes of the other tables are counted, now that they are going to be read.
    fn look(&mut self, counting: &Counting, number: usize) {
        for (_, table) in self.tables.iter_mut().enumerate().filter(|(other, _)| *other != number) {
            table.counted_before = counting.counted_before(table.relation).or_raise();
        }
    }

    /// The statement changed rows that are counted; `false` where it changed none: such a one, say of a cascade that
    /// came second, leaves nothing that the other tables would have to be counted with.
    fn collect_lines(
        &mut self,
        call: &TriggerCall,
        counting: &Counting,
        projector: &mut Projector,
        columns: &Columns,
        groups: &mut Groups,
    ) -> bool {
        let read = self.tables[0].columns.clone();
        let mut is_first = true;
        call.each_row(|sign, row| {
            if std::mem::take(&mut is_first) {
                self.look(counting, 0);
            }
            for (place, value) in columns_of(row, &read).enumerate() {
                self.row.set(place, value);
            }
            if self.resolve(&[0])
                && let Some(values) = projector.evaluate(self.row.slot())
            {
                groups.add(sign, &values, columns);
            }
        });
        !is_first
    }

    /// The statement changed rows of a joined table: what refers to them moves.
    fn collect_moves(
        &mut self,
        call: &TriggerCall,
        counting: &Counting,
        number: usize,
        projector: &mut Projector,
        columns: &Columns,
        groups: &mut Groups,
    ) -> bool {
        if call.event != Event::Delete && xact::keeps_one_snapshot() {
            self.refuse_second_rows(call, counting, number);
        }
        let path = self.path(number);
        if call.event != Event::Update && !counting.may_be_referred(path.iter().map(|t| self.tables[*t].relation)) {
            return true;
        }
        let changed = self.changed(call, number);
        if changed.is_empty() {
            return false;
        }
        self.look(counting, number);
        let known: Vec<usize> = path.iter().copied().chain([number]).collect();
        let mut left = settings::max_moved_rows();
        let _path = Setting::pinned_path();
        let _role = AsRole::become_role(self.owner);
        for (key, images) in changed {
            let chains = self.chains(number, key, &mut left);
            as_of::in_snapshot(false, || {
                for chain in &chains {
                    for (table, row) in path.iter().zip(&chain.rows) {
                        self.fill(*table, row);
                    }
                    for image in &images {
                        self.fill(number, &image.columns);
                        if self.resolve(&known)
                            && let Some(values) = projector.evaluate(self.row.slot())
                        {
                            // A key is unique: a row is there once, before and after.
                            groups.add(image.count.signum() as i8, &values, columns);
                        }
                    }
                }
            });
        }
        true
    }

    /// Refuses a row put beside another with its key: one that the transaction's snapshot still shows, though it is deleted.
    fn refuse_second_rows(&self, call: &TriggerCall, counting: &Counting, number: usize) {
        let Some(join) = &self.tables[number].join else { return };
        let key_columns: Vec<i16> = join.referred.iter().map(|(column, _)| *column).collect();
        as_of::in_snapshot(false, || {
            counting.see_own();
            call.each_row(|sign, row| {
                let key = key_columns.iter().flat_map(|column| columns_of(row, std::slice::from_ref(column)));
                let key: Option<Vec<pg_sys::Datum>> = key.map(|(value, null)| (!null).then_some(value)).collect();
                if sign > 0 && key.is_some_and(|key| join.lookup.has_several(&key)) {
                    Err(Refusal::Serialization).or_raise()
                }
            });
        });
    }

    /// The tables from the one that refers to a joined table down to the one whose rows are counted.
    fn path(&self, number: usize) -> Vec<usize> {
        let mut path = Vec::new();
        let mut at = number;
        while let Some(join) = &self.tables[at].join {
            at = join.from;
            path.push(at);
        }
        path
    }

    fn fill(&mut self, number: usize, row: &[Value]) {
        let offset = self.tables[number].offset;
        for (place, value) in row.iter().enumerate() {
            self.row.set(offset + place, *value);
        }
    }

    /// What refers to the row of a joined table with this key, down to the rows that are counted. Takes their number
    /// from `left`.
    fn chains(&self, number: usize, key: Vec<Value>, left: &mut i64) -> Vec<Chain> {
        let mut places = Vec::new();
        let before = *left;
        let chains = as_of::in_snapshot(false, || self.descend(number, &key, left, &mut places));
        // A transaction that keeps its snapshot must not move rows that it sees other than they are now.
        if xact::keeps_one_snapshot() {
            let mut latest = Vec::new();
            let mut again = before;
            as_of::in_snapshot(true, || self.descend(number, &key, &mut again, &mut latest));
            places.sort_unstable();
            latest.sort_unstable();
            if places != latest {
                Err(Refusal::Serialization).or_raise()
            }
        }
        chains
    }

    fn descend(&self, number: usize, key: &[Value], left: &mut i64, places: &mut Vec<(usize, u64)>) -> Vec<Chain> {
        let mut chains = vec![Chain { rows: Vec::new(), key: key.to_vec() }];
        let mut at = number;
        while let Some(join) = &self.tables[at].join {
            let width = self.tables[join.from].columns.len();
            let mut next = Vec::new();
            let mut room = *left;
            as_of::see_before(self.tables[join.from].counted_before);
            // Nothing refers to a row without a key.
            for chain in chains.iter().filter(|chain| !chain.key.iter().any(|(_, null)| *null)) {
                let key: Vec<pg_sys::Datum> = chain.key.iter().map(|(value, _)| *value).collect();
                room -= join.referring.select().each_row(&key, room + 1, |row| {
                    let [(table, _), (place, _), row @ ..] = row else { return };
                    places.push((table.value(), as_of::place(*place)));
                    let copy = |(passing, (value, null)): (&Passing, &Value)| (passing.copy(*value, *null), *null);
                    let mut copied: Vec<Value> =
                        self.memory.within(|| join.referring.columns.iter().zip(row).map(copy).collect());
                    let key = copied.split_off(width);
                    next.push(Chain { rows: chain.rows.iter().cloned().chain([copied]).collect(), key });
                });
                if room < 0 {
                    let table = session::qualified_name(self.tables[number].relation);
                    Err(Refusal::Moves { table, limit: settings::max_moved_rows() }).or_raise()
                }
            }
            chains = next;
            at = join.from;
        }
        *left -= chains.len() as i64;
        chains
    }

    /// The rows of a joined table that differ before and after the statement in what the rollup reads, by key.
    fn changed(&self, call: &TriggerCall, number: usize) -> Vec<(Vec<Value>, Vec<Image>)> {
        let Table { columns, join: Some(join), .. } = &self.tables[number] else { return Vec::new() };
        let key_columns: Vec<i16> = join.referred.iter().map(|(column, _)| *column).collect();
        let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut images: Vec<(Vec<Value>, Image)> = Vec::new();
        let mut bytes = Vec::new();
        call.each_row(|sign, row| {
            let key: Vec<Value> =
                key_columns.iter().flat_map(|column| columns_of(row, std::slice::from_ref(column))).collect();
            let values: Vec<Value> = columns_of(row, columns).collect();
            bytes.clear();
            for ((_, passing), (value, null)) in join.referred.iter().zip(&key) {
                passing.append_key(*value, *null, &mut bytes);
            }
            for (passing, (value, null)) in join.passing.iter().zip(&values) {
                passing.append_key(*value, *null, &mut bytes);
            }
            if let Some(place) = places.get(&bytes) {
                images[*place].1.count += i64::from(sign);
                return;
            }
            places.insert(bytes.clone(), images.len());
            let (key, columns) = self.memory.within(|| {
                let key = join.referred.iter().zip(key).map(|((_, p), (value, null))| (p.copy(value, null), null));
                let columns = join.passing.iter().zip(values).map(|(p, (value, null))| (p.copy(value, null), null));
                (key.collect(), columns.collect())
            });
            images.push((key, Image { count: i64::from(sign), columns }));
        });
        let mut by_key: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut changed: Vec<(Vec<Value>, Vec<Image>)> = Vec::new();
        for (key, image) in images {
            if image.count == 0 {
                continue;
            }
            bytes.clear();
            for ((_, passing), (value, null)) in join.referred.iter().zip(&key) {
                passing.append_key(*value, *null, &mut bytes);
            }
            let place = *by_key.entry(bytes.clone()).or_insert_with(|| {
                changed.push((key, Vec::new()));
                changed.len() - 1
            });
            changed[place].1.push(image);
        }
        changed
    }

    /// Finds and locks the rows of the tables that are not `known`; `false` where there is none.
    fn resolve(&mut self, known: &[usize]) -> bool {
        for number in (1..self.tables.len()).filter(|number| !known.contains(number)) {
            let Some(join) = &self.tables[number].join else { continue };
            let mut bytes = vec![number as u8];
            let mut key = Vec::with_capacity(join.key.len());
            for (place, passing) in &join.key {
                let (value, null) = self.row.get(*place);
                if null {
                    return false;
                }
                passing.append_key(value, false, &mut bytes);
                key.push(value);
            }
            if self.found.len() > REMEMBERED_MAX && !self.found.contains_key(&bytes) {
                self.found.clear();
            }
            let memory = &self.memory;
            let row = self.found.entry(bytes).or_insert_with(|| {
                let mut values = Vec::with_capacity(join.lookup.width());
                as_of::see_before(self.tables[number].counted_before);
                memory.within(|| join.lookup.find(&key, &mut values)).then_some(values)
            });
            let Some(values) = row else { return false };
            for (place, value) in values.iter().enumerate() {
                self.row.set(self.tables[number].offset + place, *value);
            }
        }
        true
    }

    fn forget(&mut self) {
        self.found.clear();
        self.memory.reset();
    }
}

impl Join {
    fn new(definition: &Definition, sql: &Sql<'_>, number: usize, edge: &Edge, lookup: Lookup) -> Self {
        let passing = |table: usize, column: i16| Passing::of(column_type(definition.tables[table].relation, column).0);
        let from = &definition.tables[edge.from];
        let keys = from.edge.iter().flat_map(|edge| edge.pairs.iter().map(|pair| pair.column));
        let types = edge.pairs.iter().map(|pair| column_type(definition.tables[number].relation, pair.column).0);
        Self {
            lookup,
            from: edge.from,
            key: edge
                .pairs
                .iter()
                .map(|pair| (definition.place(edge.from, pair.from_column), passing(edge.from, pair.from_column)))
                .collect(),
            referred: edge.pairs.iter().map(|pair| (pair.column, passing(number, pair.column))).collect(),
            passing: definition.tables[number].columns.iter().map(|column| passing(number, *column)).collect(),
            referring: Referring {
                sql: sql.referring(number),
                types: types.collect(),
                columns: from.columns.iter().copied().chain(keys).map(|column| passing(edge.from, column)).collect(),
                select: OnceCell::new(),
            },
        }
    }
}

impl Referring {
    fn select(&self) -> &Select {
        self.select.get_or_init(|| Select::prepare(&self.sql, &self.types, self.columns.len() + 2))
    }
}
