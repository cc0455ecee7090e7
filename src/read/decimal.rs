//! Amounts as decimal text from Postgres to JSON, never a float.

use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use tokio_postgres::types::{FromSql, Type};
use utoipa::ToSchema;

/// An exact amount as decimal text, at least two decimals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, format = "decimal", pattern = r"^-?\d+\.\d{2,}$", examples("1234.50"))]
pub struct Money(String);

/// A quantity, ratio or percentage as decimal text, no trailing zeros.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, format = "decimal", pattern = r"^-?\d+(\.\d+)?$", examples("2.5"))]
pub struct Number(String);

/// One spelling for one value: the scale of a sum depends on the rows that went into it.
fn canonical(text: &str, decimals: usize) -> String {
    if !text.ends_with(|c: char| c.is_ascii_digit()) {
        return text.to_owned(); // NaN, Infinity
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = fraction.trim_end_matches('0');
    if fraction.len().max(decimals) == 0 {
        return whole.to_owned();
    }
    format!("{whole}.{fraction:0<decimals$}")
}

impl Money {
    pub fn new(text: &str) -> Self {
        Self(canonical(text, 2))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Number {
    pub fn new(text: &str) -> Self {
        Self(canonical(text, 0))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

type FromSqlError = Box<dyn std::error::Error + Sync + Send>;

impl<'a> FromSql<'a> for Money {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, FromSqlError> {
        Ok(Self::new(<&str>::from_sql(ty, raw)?))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TEXT
    }
}

impl<'a> FromSql<'a> for Number {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, FromSqlError> {
        Ok(Self::new(<&str>::from_sql(ty, raw)?))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TEXT
    }
}

impl<'de> Deserialize<'de> for Money {
    /// A sum over sales that bear no amount is NULL in SQL: nothing was taken.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(Self::new(text.as_deref().unwrap_or("0")))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::new(&String::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_has_one_spelling() {
        for (text, money, number) in [
            ("0", "0.00", "0"),
            ("0.00000000", "0.00", "0"),
            ("12", "12.00", "12"),
            ("12.5", "12.50", "12.5"),
            ("-12.50", "-12.50", "-12.5"),
            ("12.345600", "12.3456", "12.3456"),
            ("1200", "1200.00", "1200"),
            ("NaN", "NaN", "NaN"),
        ] {
            assert_eq!(Money::new(text).as_str(), money);
            assert_eq!(Number::new(text).as_str(), number);
        }
    }
}
