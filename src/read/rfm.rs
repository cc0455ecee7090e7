//! Customers by recency, frequency and money.

use super::{DateRange, Money, ReadError, Reader, Store, as_date, rows, sql};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Customers scored, and how many are in each segment.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Rfm {
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
    /// The largest sum first.
    pub segments: Vec<Segment>,
    /// Those who spent most first.
    pub customers: Vec<RfmCustomer>,
}

/// Customers alike.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Segment {
    /// `champion`, `loyal`, `recent`, `at risk`, `lost` or `regular`.
    #[schema(examples("champion"))]
    pub segment: String,
    #[schema(examples(14))]
    pub customers: i64,
    pub monetary_bs: Money,
    pub monetary_usd: Money,
}

/// One customer. Scores run from 1 to 5, the best; equal customers score the same.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RfmCustomer {
    pub customer_id: Uuid,
    #[schema(examples("Carmen Rojas"))]
    pub name: Option<String>,
    #[schema(format = Date, examples("2026-07-28"))]
    pub last_sale: String,
    /// From the last sale to the end of the range.
    #[schema(examples(2))]
    pub recency_days: i32,
    /// Sales in the range.
    #[schema(examples(9))]
    pub frequency: i64,
    /// What they paid, tax included; returns are not deducted.
    pub monetary_bs: Money,
    pub monetary_usd: Money,
    #[schema(minimum = 1, maximum = 5, examples(5))]
    pub r: i32,
    #[schema(minimum = 1, maximum = 5, examples(4))]
    pub f: i32,
    #[schema(minimum = 1, maximum = 5, examples(5))]
    pub m: i32,
    #[schema(examples("champion"))]
    pub segment: String,
}

/// Range and limit are the caller's to bound.
pub async fn rfm(client: &Reader, store: &Store, range: DateRange, limit: u16) -> Result<Rfm, ReadError> {
    let (customers, segments) = (sql!("rfm"), sql!("rfm_segments"));
    let limit = i64::from(limit);
    Ok(Rfm {
        store_id: store.id,
        store_name: store.name.clone(),
        from: range.from,
        to: range.to,
        segments: rows(client, segments, &[&store.id, &range.from, &range.to]).await?,
        customers: rows(client, customers, &[&store.id, &range.from, &range.to, &limit]).await?,
    })
}
