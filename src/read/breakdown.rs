//! A shop's sales by hour, weekday or month.

use super::{DateRange, Money, Number, ReadError, Reader, Store, as_date, rows, sql};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use utoipa::ToSchema;
use uuid::Uuid;

/// By what sales are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dimension {
    /// Hour of the shop's clock.
    Hour,
    /// Weekday of the business date.
    Weekday,
    Month,
}

impl Dimension {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Weekday => "weekday",
            Self::Month => "month",
        }
    }
}

impl FromStr for Dimension {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Hour, Self::Weekday, Self::Month].into_iter().find(|dimension| dimension.as_str() == text).ok_or(())
    }
}

/// Sales by a part of the calendar.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SalesBreakdown {
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
    pub dimension: Dimension,
    pub rows: Vec<BreakdownRow>,
}

/// One hour of the clock, weekday or month.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BreakdownRow {
    /// `00` to `23`; `1` (Monday) to `7`; or `2026-07`.
    #[schema(examples("14"))]
    pub key: String,
    /// Days of the range that belong to it.
    #[schema(examples(5))]
    pub days: i64,
    /// Completed sales; returns and voids are not sales.
    #[schema(examples(212))]
    pub sales_count: i64,
    #[schema(examples(3))]
    pub returns_count: i64,
    /// Units sold less units returned.
    pub items: Number,
    /// Sales before discounts and returns, without tax.
    pub gross_bs: Money,
    pub gross_usd: Money,
    /// gross - discounts - returns
    pub net_bs: Money,
    pub net_usd: Money,
    /// Collected: net plus tax.
    pub total_bs: Money,
    pub total_usd: Money,
}

/// The range is the caller's to bound.
pub async fn sales_breakdown(
    client: &Reader,
    store: &Store,
    range: DateRange,
    dimension: Dimension,
) -> Result<SalesBreakdown, ReadError> {
    let sql = sql!("breakdown");
    let rows = rows(client, sql, &[&store.id, &range.from, &range.to, &dimension.as_str()]).await?;
    Ok(SalesBreakdown {
        store_id: store.id,
        store_name: store.name.clone(),
        from: range.from,
        to: range.to,
        dimension,
        rows,
    })
}
