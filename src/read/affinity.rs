//! Products that are bought together.

use super::{DateRange, Number, ReadError, Reader, Store, as_date, rows, sql};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Pairs, those furthest from chance first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Affinity {
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
    pub pairs: Vec<Pair>,
}

/// Two products in one ticket.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Pair {
    pub product_a: Uuid,
    #[schema(examples("Harina de maíz 1 kg"))]
    pub name_a: Option<String>,
    pub product_b: Uuid,
    #[schema(examples("Queso blanco"))]
    pub name_b: Option<String>,
    /// Sales with both.
    #[schema(examples(41))]
    pub tickets: i64,
    /// 100 × tickets with both / all tickets, to 2 decimals.
    pub support_percent: Number,
    /// 100 × tickets with both / those with a, to 1 decimal.
    pub confidence_a_percent: Number,
    /// 100 × tickets with both / those with b, to 1 decimal.
    pub confidence_b_percent: Number,
    /// How much more often than by chance, to 2 decimals; 1 is chance.
    pub lift: Number,
}

/// Range, fewest tickets and limit are the caller's to bound.
pub async fn affinity(
    client: &Reader,
    store: &Store,
    range: DateRange,
    least: u16,
    limit: u16,
) -> Result<Affinity, ReadError> {
    let sql = sql!("affinity");
    let (least, limit) = (i32::from(least), i64::from(limit));
    let pairs = rows(client, sql, &[&store.id, &range.from, &range.to, &least, &limit]).await?;
    Ok(Affinity { store_id: store.id, store_name: store.name.clone(), from: range.from, to: range.to, pairs })
}
