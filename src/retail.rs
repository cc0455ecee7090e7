//! The retail tables as the loader and the simulator write them: amounts as JSON, kinds of sale, the look before writing.

use crate::error::{Error, Result};
use bytes::BytesMut;
use rust_decimal::Decimal;
use std::fmt::Write;
use tokio_postgres::Client;

use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

/// `sales.kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sale,
    Return,
    Adjustment,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sale => "sale",
            Self::Return => "return",
            Self::Adjustment => "adjustment",
        }
    }
}

/// The amounts of `sales.totals` in one currency. `total = gross - discount + tax`, always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    pub gross: Decimal,
    pub discount: Decimal,
    pub tax: Decimal,
}

impl Amounts {
    pub fn total(&self) -> Decimal {
        self.gross - self.discount + self.tax
    }
}

/// `sales.totals`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub bs: Amounts,
    pub usd: Amounts,
    pub items: Decimal,
}

impl Totals {
    /// Written by hand: a JSON number must keep every decimal, and never pass through a float.
    pub fn to_jsonb(&self) -> Jsonb {
        let mut json = String::with_capacity(192);
        for (separator, currency, amounts) in [('{', "bs", &self.bs), (',', "usd", &self.usd)] {
            // Writing to a String cannot fail.
            let _ = write!(
                json,
                r#"{separator}"gross_{currency}":{},"discount_{currency}":{},"tax_{currency}":{},"total_{currency}":{}"#,
                amounts.gross,
                amounts.discount,
                amounts.tax,
                amounts.total(),
            );
        }
        let _ = write!(json, r#","items":{}}}"#, self.items);
        Jsonb(json)
    }
}

/// JSON text sent as `jsonb`, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jsonb(pub String);

impl ToSql for Jsonb {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        if *ty == Type::JSONB {
            out.extend_from_slice(&[1]);
        }
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::JSON | Type::JSONB)
    }

    to_sql_checked!();
}

/// Refuses a database that has no retail tables to write to.
pub async fn require_tables(client: &Client) -> Result<()> {
    let ready: bool = client
        .query_one(
            "select to_regclass('public.sale_payments') is not null and to_regclass('public.sales') is not null",
            &[],
        )
        .await?
        .get(0);
    if ready {
        return Ok(());
    }
    Err(Error::usage("this database has no retail tables yet").with_hint("Run `pulso migrate up` first."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_keep_every_decimal() {
        let usd = Amounts { gross: Decimal::new(-10, 3), discount: Decimal::ZERO, tax: Decimal::new(16, 2) };
        let totals = Totals { bs: Amounts::default(), usd, items: Decimal::from(-3) };
        assert_eq!(
            totals.to_jsonb().0,
            r#"{"gross_bs":0,"discount_bs":0,"tax_bs":0,"total_bs":0,"gross_usd":-0.010,"discount_usd":0,"tax_usd":0.16,"total_usd":0.150,"items":-3}"#
        );
    }
}
