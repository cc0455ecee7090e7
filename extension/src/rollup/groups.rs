//! The changes of one statement to one rollup, netted per group.

use crate::pg::append::Rows;
use crate::pg::project::{Columns, Values};
use crate::pg::query::{Definition, Parts};
use crate::pg::value::{NumericSum, Passing, integer, numeric};
use hashbrown::{DefaultHashBuilder, HashTable};
use pgrx::pg_sys::{self, Datum};
use std::hash::BuildHasher;
use std::ops::Range;

/// What the keys and arguments of a rollup are.
pub struct Shape {
    keys: Vec<Passing>,
    arguments: Vec<Kind>,
}

struct Kind {
    parts: Parts,
    type_oid: pg_sys::Oid,
    always_present: bool,
}

impl Shape {
    pub fn of(definition: &Definition) -> Self {
        Self {
            keys: definition.keys.iter().map(|key| Passing::of(key.type_oid)).collect(),
            arguments: definition
                .arguments
                .iter()
                .map(|a| Kind { parts: a.parts, type_oid: a.expression.type_oid(), always_present: a.always_present })
                .collect(),
        }
    }
}

/// What an argument adds up to, and how many values of it are not NULL.
struct Total {
    present: i64,
    sum: Sum,
}

enum Sum {
    None,
    Integers(i128),
    Numerics(NumericSum),
}

impl Total {
    fn new(kind: &Kind) -> Self {
        let sum = match kind.parts {
            Parts::Present => Sum::None,
            Parts::SmallSum | Parts::BigSum => Sum::Integers(0),
            Parts::FiniteSum | Parts::NumericSum => Sum::Numerics(NumericSum::default()),
        };
        Self { present: 0, sum }
    }

    fn add(&mut self, kind: &Kind, sign: i8, value: Datum) {
        self.present += i64::from(sign);
        match &mut self.sum {
            Sum::None => {}
            Sum::Integers(sum) => {
                let term = match kind.type_oid {
                    pg_sys::INT2OID => i128::from(value.value() as i16),
                    pg_sys::INT4OID => i128::from(value.value() as i32),
                    _ => i128::from(value.value() as i64),
                };
                // Far from overflow: a statement has fewer than 2^63 rows of 64-bit terms.
                *sum += i128::from(sign) * term;
            }
            Sum::Numerics(sum) => sum.add(sign, value),
        }
    }

    fn is_zero(&self) -> bool {
        self.present == 0
            && match &self.sum {
                Sum::None => true,
                Sum::Integers(sum) => *sum == 0,
                Sum::Numerics(sum) => sum.is_zero(),
            }
    }

    fn push_to(&self, kind: &Kind, rows: &mut Rows) {
        if !kind.always_present {
            rows.push(Datum::from(self.present));
        }
        match &self.sum {
            Sum::None => {}
            Sum::Integers(sum) if kind.parts == Parts::SmallSum => rows.push(integer(*sum)),
            Sum::Integers(sum) => rows.push(numeric(*sum, 0)),
            Sum::Numerics(sum) => {
                rows.push(sum.total());
                if kind.parts == Parts::NumericSum {
                    for count in [sum.nans, sum.infinities, sum.negative_infinities] {
                        rows.push(Datum::from(count));
                    }
                }
            }
        }
    }
}

struct Group {
    /// Its key's bytes among all.
    key: Range<usize>,
    rows: i64,
}

/// Groups by key. A statement of one sale touches a handful; a bulk statement as many as it likes.
///
/// Kept between statements for the memory it holds; what it refers to belongs to one statement.
pub struct Groups {
    shape: Shape,
    groups: Vec<Group>,
    places: HashTable<usize>,
    hasher: DefaultHashBuilder,
    bytes: Vec<u8>,
    /// As many a group as the shape has keys.
    keys: Vec<(Datum, bool)>,
    /// As many a group as the shape has arguments.
    totals: Vec<Total>,
    /// The group of the row before: rows of one statement often share it.
    last: usize,
}

/// Statements with more groups than this give their memory back.
const GROUPS_KEPT: usize = 1000;

impl Groups {
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            groups: Vec::new(),
            places: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            bytes: Vec::new(),
            keys: Vec::new(),
            totals: Vec::new(),
            last: 0,
        }
    }

    /// Forgets the statement before.
    pub fn clear(&mut self) {
        if self.groups.len() > GROUPS_KEPT {
            (self.groups, self.places) = (Vec::new(), HashTable::new());
            (self.bytes, self.keys, self.totals) = (Vec::new(), Vec::new(), Vec::new());
        } else {
            self.groups.clear();
            self.places.clear();
            self.bytes.clear();
            self.keys.clear();
            self.totals.clear();
        }
        self.last = 0;
    }

    /// Counts a row.
    pub fn add(&mut self, sign: i8, values: &Values<'_>, columns: &Columns) {
        let place = self.place(values, &columns.keys);
        self.groups[place].rows += i64::from(sign);
        let width = self.shape.arguments.len();
        let totals = &mut self.totals[place * width..][..width];
        for ((total, kind), column) in totals.iter_mut().zip(&self.shape.arguments).zip(&columns.arguments) {
            if !values.nulls[*column] {
                total.add(kind, sign, values.values[*column]);
            }
        }
    }

    fn place(&mut self, values: &Values<'_>, columns: &[usize]) -> usize {
        let Self { shape, groups, places, hasher, bytes, keys, totals, last } = self;
        let start = bytes.len();
        for (key, column) in shape.keys.iter().zip(columns) {
            key.append_key(values.values[*column], values.nulls[*column], bytes);
        }
        let key = &bytes[start..];
        let has_key = |place: usize| groups.get(place).is_some_and(|group| bytes[group.key.clone()] == *key);
        if has_key(*last) {
            bytes.truncate(start);
            return *last;
        }
        let hash = hasher.hash_one(key);
        *last = match places.find(hash, |place| has_key(*place)).copied() {
            Some(place) => {
                bytes.truncate(start);
                place
            }
            None => {
                let place = groups.len();
                places.insert_unique(hash, place, |place| hasher.hash_one(&bytes[groups[*place].key.clone()]));
                groups.push(Group { key: start..bytes.len(), rows: 0 });
                keys.extend(shape.keys.iter().zip(columns).map(|(key, column)| {
                    let (value, null) = (values.values[*column], values.nulls[*column]);
                    (key.copy(value, null), null)
                }));
                totals.extend(shape.arguments.iter().map(Total::new));
                place
            }
        };
        *last
    }

    /// The groups whose changes do not cancel out, as those of an update that changes nothing do.
    fn changed(&self) -> impl Iterator<Item = usize> {
        let width = self.shape.arguments.len();
        (0..self.groups.len()).filter(move |place| {
            self.groups[*place].rows != 0 || !self.totals[place * width..][..width].iter().all(Total::is_zero)
        })
    }

    pub fn are_unchanged(&self) -> bool {
        self.changed().next().is_none()
    }

    /// Writes a delta for each group that has changed.
    pub fn write(&self, generation: i64, rows: &mut Rows) {
        let Shape { keys, arguments } = &self.shape;
        for place in self.changed() {
            rows.begin();
            rows.push(Datum::from(generation));
            for (value, null) in &self.keys[place * keys.len()..][..keys.len()] {
                rows.push_nullable(*value, *null);
            }
            rows.push(Datum::from(self.groups[place].rows));
            for (total, kind) in self.totals[place * arguments.len()..].iter().zip(arguments) {
                total.push_to(kind, rows);
            }
        }
    }
}
