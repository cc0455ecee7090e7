//! A shop's products by what they brought in.

use super::{DateRange, Money, Number, ReadError, Reader, Store, as_date, sql};
use jiff::civil::Date;
use serde::Serialize;
use std::str::FromStr;
use utoipa::ToSchema;
use uuid::Uuid;

/// What the products are ranked by. Money ranks in US dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ranking {
    Revenue,
    Units,
    Margin,
}

impl Ranking {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Revenue => "revenue",
            Self::Units => "units",
            Self::Margin => "margin",
        }
    }
}

impl FromStr for Ranking {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Revenue, Self::Units, Self::Margin].into_iter().find(|by| by.as_str() == text).ok_or(())
    }
}

/// Products sold in a range, the first by the ranking first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TopProducts {
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
    pub by: Ranking,
    pub products: Vec<Product>,
}

/// What a product brought in: completed sales; returns are not deducted.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Product {
    pub product_id: Uuid,
    /// Null where the source never described the product.
    #[schema(examples("Harina de maíz 1 kg"))]
    pub name: Option<String>,
    #[schema(examples("7591234000012"))]
    pub sku: Option<String>,
    pub units: Number,
    /// Sales in which it appears.
    #[schema(examples(120))]
    pub times_sold: i64,
    /// Quantity × price, less line discounts, without tax.
    pub revenue_bs: Money,
    pub revenue_usd: Money,
    /// Revenue less quantity × cost at the moment of the sale.
    pub margin_bs: Money,
    pub margin_usd: Money,
    /// 100 × margin_usd / revenue_usd, to 1 decimal; null without revenue.
    pub margin_percent: Option<Number>,
}

/// The range and the limit are the caller's to bound.
pub async fn top_products(
    client: &Reader,
    store: &Store,
    range: DateRange,
    by: Ranking,
    limit: u16,
) -> Result<TopProducts, ReadError> {
    let sql = sql!("top_products");
    let rows = client.query(sql, &[&store.id, &range.from, &range.to, &by.as_str(), &i64::from(limit)]).await?;
    let products = rows
        .iter()
        .map(|row| {
            Ok(Product {
                product_id: row.try_get("product_id")?,
                name: row.try_get("name")?,
                sku: row.try_get("sku")?,
                units: row.try_get("units")?,
                times_sold: row.try_get("times_sold")?,
                revenue_bs: row.try_get("revenue_bs")?,
                revenue_usd: row.try_get("revenue_usd")?,
                margin_bs: row.try_get("margin_bs")?,
                margin_usd: row.try_get("margin_usd")?,
                margin_percent: row.try_get("margin_percent")?,
            })
        })
        .collect::<Result<_, tokio_postgres::Error>>()?;
    Ok(TopProducts { store_id: store.id, store_name: store.name.clone(), from: range.from, to: range.to, by, products })
}
