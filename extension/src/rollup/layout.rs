//! The columns of a rollup's tables. All but the keys are additive, so that every change has an exact inverse.
//!
//! base:  k1 … kn, n, then per argument: [c1] [, s1 [, nan1, pinf1, ninf1]]
//! delta: gen, then the same
//!
//! c1 counts the values that are not NULL; it is left out where that is always n.

use crate::pg::query::{Definition, Parts};

/// A type of additive column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Additive {
    Bigint,
    Numeric,
}

impl Additive {
    pub fn sql(self) -> &'static str {
        match self {
            Self::Bigint => "pg_catalog.int8",
            Self::Numeric => "pg_catalog.\"numeric\"",
        }
    }
}

/// Numbers without digits, and what their counts are called.
const SPECIALS: [(&str, &str); 3] = [("nan", "NaN"), ("pinf", "Infinity"), ("ninf", "-Infinity")];

/// Names of the key columns.
pub fn keys(definition: &Definition) -> Vec<String> {
    (1..=definition.keys.len()).map(|number| format!("k{number}")).collect()
}

/// The column that counts an argument's values.
pub fn present(definition: &Definition, argument: usize) -> String {
    if definition.arguments[argument].always_present { "n".to_owned() } else { format!("c{}", argument + 1) }
}

/// The additive columns in order, and what each adds up: SQL over the columns x1 … xm that hold the arguments.
pub fn additives(definition: &Definition) -> Vec<(String, Additive, String)> {
    added(definition, false)
}

/// The same where every number has digits: a third cheaper, and told by the sums, which have none if a number has not.
pub fn additives_if_finite(definition: &Definition) -> Vec<(String, Additive, String)> {
    added(definition, true)
}

/// The columns in which a number without digits would show: a sum has none then.
pub fn open_sums(definition: &Definition) -> Vec<String> {
    let open = definition.arguments.iter().enumerate().filter(|(_, argument)| argument.parts == Parts::NumericSum);
    open.map(|(index, _)| format!("s{}", index + 1)).collect()
}

fn added(definition: &Definition, finite: bool) -> Vec<(String, Additive, String)> {
    let mut columns = vec![("n".to_owned(), Additive::Bigint, "pg_catalog.count(*)".to_owned())];
    for (index, argument) in definition.arguments.iter().enumerate() {
        let i = index + 1;
        if !argument.always_present {
            columns.push((present(definition, index), Additive::Bigint, format!("pg_catalog.count(x{i})")));
        }
        match argument.parts {
            Parts::Present => {}
            Parts::SmallSum => {
                columns.push((format!("s{i}"), Additive::Bigint, format!("coalesce(pg_catalog.sum(x{i}), 0)")))
            }
            Parts::NumericSum if finite => {
                columns.push((format!("s{i}"), Additive::Numeric, format!("coalesce(pg_catalog.sum(x{i}), 0)")));
                columns.extend(
                    SPECIALS.map(|(name, _)| (format!("{name}{i}"), Additive::Bigint, "0::pg_catalog.int8".to_owned())),
                );
            }
            Parts::BigSum | Parts::FiniteSum => {
                columns.push((format!("s{i}"), Additive::Numeric, format!("coalesce(pg_catalog.sum(x{i}), 0)")))
            }
            Parts::NumericSum => {
                // Only what is not a number of digits has no scale, and looking is cheaper than comparing.
                let finite = format!("pg_catalog.scale(x{i}) is not null");
                columns.push((
                    format!("s{i}"),
                    Additive::Numeric,
                    format!("coalesce(pg_catalog.sum(x{i}) filter (where {finite}), 0)"),
                ));
                for (name, value) in SPECIALS {
                    let counted = format!(
                        "pg_catalog.count(*) filter (where pg_catalog.scale(x{i}) is null and x{i} = '{value}')"
                    );
                    columns.push((format!("{name}{i}"), Additive::Bigint, counted));
                }
            }
        }
    }
    columns
}
