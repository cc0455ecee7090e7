//! Shops side by side.

use super::{DateRange, Money, Number, ReadError, Reader, as_date, rows, sql};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// The caller's shops, the largest net sales first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Chain {
    /// First business date, included.
    #[serde(serialize_with = "as_date")]
    #[schema(examples("2026-07-01"))]
    pub from: Date,
    /// Last business date, included.
    #[serde(serialize_with = "as_date")]
    #[schema(examples("2026-07-30"))]
    pub to: Date,
    pub stores: Vec<ChainStore>,
}

/// One shop of the chain.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ChainStore {
    pub store_id: Uuid,
    #[schema(examples("Abasto La Candelaria"))]
    pub store_name: String,
    /// Completed sales; returns and voids are not sales.
    #[schema(examples(212))]
    pub sales_count: i64,
    #[schema(examples(3))]
    pub returns_count: i64,
    /// Units sold, returns not deducted.
    pub items_sold: Number,
    /// Sales before discounts and returns, without tax.
    pub gross_bs: Money,
    pub gross_usd: Money,
    /// gross - discounts - returns
    pub net_bs: Money,
    pub net_usd: Money,
    /// Collected: net plus tax.
    pub total_bs: Money,
    pub total_usd: Money,
    /// (gross - discounts) / sales_count, to 4 decimals; null without sales.
    pub avg_ticket_bs: Option<Money>,
    pub avg_ticket_usd: Option<Money>,
    /// In as many days before the range.
    #[schema(examples(198))]
    pub previous_sales_count: i64,
    pub previous_net_bs: Money,
    pub previous_net_usd: Money,
    /// Of net_usd against that, to 1 decimal; null where that is zero.
    pub change_percent: Option<Number>,
}

/// The latest business date of any of the shops.
pub async fn chain_today(client: &Reader, only: &Option<Vec<Uuid>>) -> Result<Date, ReadError> {
    let sql = sql!("chain_today");
    Ok(client.query_one(sql, &[only]).await?.try_get(0)?)
}

/// The range is the caller's to bound.
pub async fn chain(client: &Reader, only: &Option<Vec<Uuid>>, range: DateRange) -> Result<Chain, ReadError> {
    let stores = rows(client, sql!("chain"), &[only, &range.from, &range.to]).await?;
    Ok(Chain { from: range.from, to: range.to, stores })
}
