//! What each cashier rang up.

use super::{DateRange, Money, Number, ReadError, Reader, Store, as_date, rows, sql};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Cashiers by net sales, the largest first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Cashiers {
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
    pub cashiers: Vec<Cashier>,
}

/// One cashier.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Cashier {
    /// Null: sales without a cashier.
    pub cashier_id: Option<Uuid>,
    #[schema(examples("Yelitza"))]
    pub name: Option<String>,
    /// Completed sales.
    #[schema(examples(212))]
    pub sales_count: i64,
    /// Completed returns.
    #[schema(examples(3))]
    pub returns_count: i64,
    /// Sales and returns voided since.
    #[schema(examples(2))]
    pub voids_count: i64,
    /// Units sold, returns not deducted.
    pub items_sold: Number,
    /// Sales before discounts and returns, without tax.
    pub gross_bs: Money,
    pub gross_usd: Money,
    /// Discounts given on sales; positive.
    pub discounts_bs: Money,
    pub discounts_usd: Money,
    /// gross - discounts - returns
    pub net_bs: Money,
    pub net_usd: Money,
    /// (gross - discounts) / sales_count, to 4 decimals; null without sales.
    pub avg_ticket_bs: Option<Money>,
    pub avg_ticket_usd: Option<Money>,
    /// items_sold / sales_count, to 2 decimals; null without sales.
    pub items_per_ticket: Option<Number>,
}

/// The range is the caller's to bound.
pub async fn cashiers(client: &Reader, store: &Store, range: DateRange) -> Result<Cashiers, ReadError> {
    let sql = sql!("cashiers");
    let cashiers = rows(client, sql, &[&store.id, &range.from, &range.to]).await?;
    Ok(Cashiers { store_id: store.id, store_name: store.name.clone(), from: range.from, to: range.to, cashiers })
}
