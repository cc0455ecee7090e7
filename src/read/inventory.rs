//! What is on the shelves, and how long it lasts.

use super::{Money, Number, ReadError, Reader, Store, rows, sql};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// A shop's stock now.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Inventory {
    pub store_id: Uuid,
    #[schema(examples("Abasto La Candelaria"))]
    pub store_name: String,
    #[serde(flatten)]
    pub totals: InventoryTotals,
    /// Whole business days that the rates are taken from.
    #[schema(examples(90))]
    pub days: i32,
    /// Products, those that run out first first.
    pub products: Vec<StockCover>,
}

/// Of the active products.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct InventoryTotals {
    #[schema(examples(412))]
    pub total_products: i64,
    /// At or below a threshold above zero; those that are out are among them.
    #[schema(examples(17))]
    pub low_stock_count: i64,
    /// None left.
    #[schema(examples(4))]
    pub out_of_stock_count: i64,
    pub total_units: Number,
    /// Units × cost today; stock below zero, sold before its delivery was booked, counts against it.
    pub total_stock_value_bs: Money,
    pub total_stock_value_usd: Money,
}

/// One product and how long it lasts.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StockCover {
    pub product_id: Uuid,
    #[schema(examples("Harina de maíz 1 kg"))]
    pub name: Option<String>,
    #[schema(examples("7591234000012"))]
    pub sku: String,
    #[schema(examples("Víveres"))]
    pub category: Option<String>,
    pub stock: Number,
    pub low_stock_threshold: Number,
    /// In the last `days` whole business days.
    pub units_sold: Number,
    pub units_per_day: Number,
    /// stock / units_per_day, to 1 decimal; null where nothing was sold.
    pub days_of_cover: Option<Number>,
    /// 100 × units sold / (units sold + stock), to 1 decimal.
    pub sell_through_percent: Option<Number>,
    /// `out`, `low` or `enough`.
    #[schema(examples("low"))]
    pub state: String,
}

/// Days and limit are the caller's to bound.
pub async fn inventory(client: &Reader, store: &Store, days: u16, limit: u16) -> Result<Inventory, ReadError> {
    let mut all: Vec<InventoryTotals> = rows(client, sql!("inventory"), &[&store.id]).await?;
    let totals = all.pop().ok_or_else(|| ReadError::Failed("a summary without a row".to_owned()))?;
    let (days, limit) = (i32::from(days), i64::from(limit));
    let products = rows(client, sql!("stock_cover"), &[&store.id, &days, &limit]).await?;
    Ok(Inventory { store_id: store.id, store_name: store.name.clone(), totals, days, products })
}
