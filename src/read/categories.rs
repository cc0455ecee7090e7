//! What each category brought in.

use super::{DateRange, Money, Number, ReadError, Reader, Store, as_date, rows, sql};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Categories by revenue, the largest first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CategoryMix {
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
    pub categories: Vec<Category>,
}

/// A category of products.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Category {
    /// Null: products without a category.
    #[schema(examples("Víveres"))]
    pub category: Option<String>,
    /// Different products sold.
    #[schema(examples(41))]
    pub products: i64,
    pub units: Number,
    /// Quantity × price, less line discounts, without tax.
    pub revenue_bs: Money,
    pub revenue_usd: Money,
    /// Revenue less quantity × cost at the moment of the sale.
    pub margin_bs: Money,
    pub margin_usd: Money,
    /// 100 × revenue_usd / revenue_usd of all, to 1 decimal; null without revenue.
    pub share_percent: Option<Number>,
}

/// The range is the caller's to bound.
pub async fn category_mix(client: &Reader, store: &Store, range: DateRange) -> Result<CategoryMix, ReadError> {
    let sql = sql!("categories");
    let categories = rows(client, sql, &[&store.id, &range.from, &range.to]).await?;
    Ok(CategoryMix { store_id: store.id, store_name: store.name.clone(), from: range.from, to: range.to, categories })
}
