//! The changes of one statement to one rollup, netted per group.

use crate::pg::append::Row;
use crate::pg::project::Values;
use crate::pg::query::{Definition, Parts};
use crate::pg::value::{NumericSum, Passing, integer, numeric};
use pgrx::pg_sys::{self, Datum};
use std::collections::HashMap;

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

/// What an argument adds up to.
enum Total {
    None,
    Integers(i128),
    Numerics(Box<NumericSum>),
}

struct Group {
    keys: Vec<(Datum, bool)>,
    rows: i64,
    arguments: Vec<(i64, Total)>,
}

impl Group {
    fn new(shape: &Shape, values: &Values<'_>) -> Self {
        let keys = shape.keys.iter().enumerate().map(|(i, key)| {
            let (value, null) = (values.values[i], values.nulls[i]);
            (key.copy(value, null), null)
        });
        let arguments = shape.arguments.iter().map(|kind| {
            let total = match kind.parts {
                Parts::Present => Total::None,
                Parts::SmallSum | Parts::BigSum => Total::Integers(0),
                Parts::FiniteSum | Parts::NumericSum => Total::Numerics(Box::default()),
            };
            (0, total)
        });
        Self { keys: keys.collect(), rows: 0, arguments: arguments.collect() }
    }

    fn is_unchanged(&self) -> bool {
        self.rows == 0
            && self.arguments.iter().all(|(present, total)| {
                *present == 0
                    && match total {
                        Total::None => true,
                        Total::Integers(sum) => *sum == 0,
                        Total::Numerics(sum) => sum.is_zero(),
                    }
            })
    }

    fn into_row(self, generation: i64, shape: &Shape) -> Row {
        let mut row = Row::default();
        row.push(Datum::from(generation));
        for (value, null) in self.keys {
            row.push_nullable(value, null);
        }
        row.push(Datum::from(self.rows));
        for ((present, total), kind) in self.arguments.into_iter().zip(&shape.arguments) {
            if !kind.always_present {
                row.push(Datum::from(present));
            }
            match total {
                Total::None => {}
                Total::Integers(sum) if kind.parts == Parts::SmallSum => row.push(integer(sum)),
                Total::Integers(sum) => row.push(numeric(sum, 0)),
                Total::Numerics(sum) => {
                    row.push(sum.total());
                    if kind.parts == Parts::FiniteSum {
                        continue;
                    }
                    for count in [sum.nans, sum.infinities, sum.negative_infinities] {
                        row.push(Datum::from(count));
                    }
                }
            }
        }
        row
    }
}

/// Groups by key. A statement of one sale touches a handful; a bulk statement as many as it likes.
pub struct Groups<'a> {
    shape: &'a Shape,
    places: HashMap<Vec<u8>, usize>,
    groups: Vec<Group>,
    key: Vec<u8>,
    /// The key of the row before, and its group: rows of one statement often share it.
    last: Option<usize>,
    last_key: Vec<u8>,
}

impl<'a> Groups<'a> {
    pub fn new(shape: &'a Shape) -> Self {
        Self { shape, places: HashMap::new(), groups: Vec::new(), key: Vec::new(), last: None, last_key: Vec::new() }
    }

    /// Counts a row: keys first, then arguments.
    pub fn add(&mut self, sign: i8, values: &Values<'_>) {
        let place = self.place(values);
        let group = &mut self.groups[place];
        group.rows += i64::from(sign);
        let first = self.shape.keys.len();
        for (i, ((present, total), kind)) in group.arguments.iter_mut().zip(&self.shape.arguments).enumerate() {
            if values.nulls[first + i] {
                continue;
            }
            let value = values.values[first + i];
            *present += i64::from(sign);
            match total {
                Total::None => {}
                Total::Integers(sum) => {
                    let term = match kind.type_oid {
                        pg_sys::INT2OID => i128::from(value.value() as i16),
                        pg_sys::INT4OID => i128::from(value.value() as i32),
                        _ => i128::from(value.value() as i64),
                    };
                    // Far from overflow: a statement has fewer than 2^63 rows of 64-bit terms.
                    *sum += i128::from(sign) * term;
                }
                Total::Numerics(sum) => sum.add(sign, value),
            }
        }
    }

    fn place(&mut self, values: &Values<'_>) -> usize {
        self.key.clear();
        for (i, key) in self.shape.keys.iter().enumerate() {
            key.append_key(values.values[i], values.nulls[i], &mut self.key);
        }
        if let Some(last) = self.last
            && self.last_key == self.key
        {
            return last;
        }
        let place = match self.places.get(&self.key) {
            Some(place) => *place,
            None => {
                self.groups.push(Group::new(self.shape, values));
                self.places.insert(self.key.clone(), self.groups.len() - 1);
                self.groups.len() - 1
            }
        };
        std::mem::swap(&mut self.key, &mut self.last_key);
        self.last = Some(place);
        place
    }

    /// Whether the changes cancel out, as those of an update that changes nothing do.
    pub fn are_unchanged(&self) -> bool {
        self.groups.iter().all(Group::is_unchanged)
    }

    /// A delta for each group that has changed.
    pub fn into_rows(self, generation: i64) -> Vec<Row> {
        let shape = self.shape;
        self.groups
            .into_iter()
            .filter(|group| !group.is_unchanged())
            .map(|group| group.into_row(generation, shape))
            .collect()
    }
}
