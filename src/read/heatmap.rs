//! A shop's sales by weekday and hour.

use super::{DateRange, Money, ReadError, Reader, Store, as_date, rows, sql};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Weekdays by hours.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Heatmap {
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
    pub cells: Vec<HeatmapCell>,
}

/// One hour of one weekday.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HeatmapCell {
    /// 1 is Monday, 7 is Sunday.
    #[schema(examples(4))]
    pub weekday: i32,
    /// 0 to 23, by the shop's clock.
    #[schema(examples(14))]
    pub hour: i32,
    /// How often the weekday comes in the range.
    #[schema(examples(5))]
    pub days: i64,
    /// Completed sales.
    #[schema(examples(18))]
    pub sales_count: i64,
    /// gross - discounts - returns
    pub net_bs: Money,
    pub net_usd: Money,
}

/// The range is the caller's to bound.
pub async fn heatmap(client: &Reader, store: &Store, range: DateRange) -> Result<Heatmap, ReadError> {
    let sql = sql!("heatmap");
    let cells = rows(client, sql, &[&store.id, &range.from, &range.to]).await?;
    Ok(Heatmap { store_id: store.id, store_name: store.name.clone(), from: range.from, to: range.to, cells })
}
