//! A shop's products in classes A, B and C.

use super::{DateRange, Money, Number, ReadError, Reader, Store, as_date, rows, sql};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Products by revenue, the largest first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ProductAbc {
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
    pub products: Vec<AbcProduct>,
}

/// One product and its class.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AbcProduct {
    pub product_id: Uuid,
    /// Null where the source never described the product.
    #[schema(examples("Harina de maíz 1 kg"))]
    pub name: Option<String>,
    #[schema(examples("7591234000012"))]
    pub sku: Option<String>,
    /// A, B or C.
    #[schema(examples("A"))]
    pub class: String,
    /// X, Y or Z by how steadily it sells from week to week; null in ranges of fewer than four weeks.
    #[schema(examples("X"))]
    pub steadiness: Option<String>,
    /// The coefficient of variation of its weekly units, to 2 decimals.
    pub variation: Option<Number>,
    pub units: Number,
    /// Quantity × price, less line discounts, without tax.
    pub revenue_bs: Money,
    pub revenue_usd: Money,
    /// Of the revenue of all, to 2 decimals; null without revenue.
    pub share_percent: Option<Number>,
    /// With all products before it.
    pub cumulative_percent: Option<Number>,
}

/// The range is the caller's to bound.
pub async fn product_abc(client: &Reader, store: &Store, range: DateRange) -> Result<ProductAbc, ReadError> {
    let sql = sql!("abc");
    let products = rows(client, sql, &[&store.id, &range.from, &range.to]).await?;
    Ok(ProductAbc { store_id: store.id, store_name: store.name.clone(), from: range.from, to: range.to, products })
}
