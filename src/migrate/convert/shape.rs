//! What a table is: its columns, keys, and all that stands on it, as the catalogs have it.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

const SHAPE: &str = include_str!("shape.sql");

#[derive(Debug, Clone, Deserialize)]
pub struct Column {
    pub name: String,
    /// Computed from others: not to be written.
    pub generated: bool,
    /// Numbered by the database always: an INSERT may override that, an UPDATE may not.
    pub numbered: bool,
    /// Its values are made by the database, by a sequence or as random ones.
    pub by_itself: bool,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Index {
    pub name: String,
    pub definition: String,
    pub primary: bool,
    pub unique: bool,
    /// Of the constraint that it stands under.
    pub constraint: Option<String>,
    pub columns: Vec<String>,
    /// Columns that it only carries along.
    #[serde(default)]
    pub included: Vec<String>,
    /// ` with (…)`, or nothing.
    #[serde(default)]
    pub options: String,
    /// Whether CLUSTER goes by it.
    #[serde(default)]
    pub clustered: bool,
    pub comment: Option<String>,
}

/// A foreign key of another table to this one.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Referring {
    pub name: String,
    pub table: String,
    pub definition: String,
    pub comment: Option<String>,
}

impl Referring {
    /// The same to another table.
    pub fn to(&self, target: &str) -> String {
        let definition = self.definition.trim_end_matches(" NOT VALID");
        let (before, after) = definition.split_once(" REFERENCES ").unwrap_or((definition, ""));
        format!("{before} REFERENCES {target}{}", after.find('(').map_or("", |at| &after[at..]))
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct Reference {
    pub name: String,
    pub definition: String,
    pub comment: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Trigger {
    pub name: String,
    pub definition: String,
    /// As `pg_trigger.tgenabled`.
    pub enabled: String,
    pub comment: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct View {
    pub name: String,
    pub definition: String,
    pub options: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Sequence {
    pub column: String,
    pub sequence: String,
    pub name: String,
    pub identity: bool,
    /// Statements about it, with `%s` for its name.
    pub sayings: Vec<String>,
}

/// A publication that the table is in.
#[derive(Debug, Clone, Deserialize)]
pub struct Publication {
    pub name: String,
    /// Which of its columns and rows.
    pub what: String,
}

/// Statistics over several columns.
#[derive(Debug, Clone, Deserialize)]
pub struct Statistics {
    pub name: String,
    pub full_name: String,
    pub schema: String,
    /// ` (kinds) ON … FROM`
    pub definition: String,
    pub target: Option<i32>,
    pub comment: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Shape {
    /// Qualified and quoted.
    pub name: String,
    pub schema: String,
    pub table: String,
    pub owner: String,
    pub hypertable: bool,
    /// Why it cannot be another kind of table.
    pub refusals: Vec<String>,
    pub columns: Vec<Column>,
    pub indexes: Vec<Index>,
    pub referring: Vec<Referring>,
    pub references: Vec<Reference>,
    pub triggers: Vec<Trigger>,
    pub views: Vec<View>,
    pub sequences: Vec<Sequence>,
    pub publications: Vec<Publication>,
    pub statistics: Vec<Statistics>,
    /// Its columns and checks as they are defined.
    pub made_of: Vec<String>,
    /// Statements about the table itself, with `%s` for its name.
    pub sayings: Vec<String>,
    /// As the planner knows it; negative where nobody has counted.
    pub rows: f64,
}

impl Shape {
    /// `None` where there is no such table.
    pub async fn read(client: &Client, table: &str, time: &str) -> Result<Option<Self>> {
        let Some(row) = client.query_opt(SHAPE, &[&table, &time]).await? else { return Ok(None) };
        let document: serde_json::Value = row.try_get(0)?;
        let shape = serde_json::from_value(document)
            .map_err(|error| Error::failed(format!("the shape of {table} cannot be read: {error}")))?;
        Ok(Some(shape))
    }

    pub fn primary(&self) -> &[String] {
        self.indexes.iter().find(|index| index.primary).map_or(&[], |index| &index.columns)
    }

    /// Columns that are written, in their order.
    pub fn written(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().filter(|column| !column.generated).map(|column| column.name.as_str())
    }

    /// Columns that an UPDATE may set.
    pub fn set(&self) -> impl Iterator<Item = &str> {
        let columns = self.columns.iter().filter(|column| !column.generated && !column.numbered);
        columns.map(|column| column.name.as_str())
    }

    /// Whether values that come from outside have to be kept apart without the time: a sale that is sent again, or one that
    /// lines refer to. What numbers itself needs no guard.
    pub fn guarded(&self, time: &str) -> bool {
        let of_itself = |name: &String| self.columns.iter().any(|column| column.name == *name && column.by_itself);
        !self.referring.is_empty()
            || self
                .indexes
                .iter()
                .any(|index| index.unique && !index.columns.iter().any(|name| name == time || of_itself(name)))
    }
}

/// An identifier as SQL has it.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
