//! Who buys: new customers and those who come back.

use super::{DateRange, Money, ReadError, Reader, Store, as_date, rows, sql};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Customers of a range. Completed sales; returns are not deducted.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Customers {
    pub store_id: Uuid,
    #[schema(examples("Abasto La Candelaria"))]
    pub store_name: String,
    /// First business date, included.
    #[serde(serialize_with = "as_date")]
    #[schema(examples("2026-07-01"))]
    pub from: Date,
    /// Last business date, included.
    #[serde(serialize_with = "as_date")]
    #[schema(examples("2026-07-30"))]
    pub to: Date,
    #[serde(flatten)]
    pub figures: CustomerFigures,
}

/// How many, and what they spent.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CustomerFigures {
    /// Customers with a sale in the range.
    #[schema(examples(97))]
    pub unique_customers: i64,
    /// Those without a sale at this shop before the range.
    #[schema(examples(12))]
    pub new_customers: i64,
    /// Those with one.
    #[schema(examples(85))]
    pub returning_customers: i64,
    /// Those with several sales in the range.
    #[schema(examples(31))]
    pub repeat_customers: i64,
    /// All sales, those without a customer too.
    #[schema(examples(212))]
    pub sales_count: i64,
    /// Sales with a customer.
    #[schema(examples(140))]
    pub identified_sales: i64,
    /// What new customers paid, tax included.
    pub new_total_bs: Money,
    pub new_total_usd: Money,
    /// What returning customers paid, tax included.
    pub returning_total_bs: Money,
    pub returning_total_usd: Money,
}

/// The range is the caller's to bound.
pub async fn customers(client: &Reader, store: &Store, range: DateRange) -> Result<Customers, ReadError> {
    let sql = sql!("customers");
    let mut all: Vec<CustomerFigures> = rows(client, sql, &[&store.id, &range.from, &range.to]).await?;
    let figures = all.pop().ok_or_else(|| ReadError::Failed("a summary without a row".to_owned()))?;
    Ok(Customers { store_id: store.id, store_name: store.name.clone(), from: range.from, to: range.to, figures })
}
