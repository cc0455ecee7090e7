//! A shop's business day.

use super::{Money, Number, ReadError, Reader, as_date, sql};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Json;
use utoipa::ToSchema;
use uuid::Uuid;

/// A shop's business day: completed sales and returns, in both currencies at each sale's own rate.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Dashboard {
    pub store_id: Uuid,
    #[schema(examples("Abasto La Candelaria"))]
    pub store_name: String,
    #[serde(serialize_with = "as_date")]
    #[schema(examples("2026-07-30"))]
    pub business_date: Date,
    /// Whether the shop's clock is still in this business day: its figures go on changing.
    pub in_progress: bool,
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
    /// Discounts given on sales; positive.
    pub discounts_bs: Money,
    pub discounts_usd: Money,
    /// Value of what came back, without tax; positive.
    pub returns_bs: Money,
    pub returns_usd: Money,
    /// gross - discounts - returns
    pub net_bs: Money,
    pub net_usd: Money,
    /// Tax collected, less tax given back.
    pub tax_bs: Money,
    pub tax_usd: Money,
    /// Collected: net plus tax.
    pub total_bs: Money,
    pub total_usd: Money,
    /// (gross - discounts) / sales_count, to 4 decimals; null without sales.
    pub avg_ticket_bs: Option<Money>,
    pub avg_ticket_usd: Option<Money>,
    /// items_sold / sales_count, to 2 decimals; null without sales.
    pub items_per_ticket: Option<Number>,
    /// Customers with a completed sale that day; sales without a customer count for none.
    #[schema(examples(97))]
    pub unique_customers: i64,
    /// By tender, the largest amount first.
    pub payment_mix: Vec<Tender>,
    /// Hours of the shop's clock in which something was sold or returned, in order; the others are left out.
    pub hourly: Vec<HourSales>,
    /// The whole business day before.
    pub yesterday: Comparison,
    /// The same weekday a week before, the whole business day.
    pub last_week: Comparison,
}

/// What one way of paying brought in.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Tender {
    /// The single tender used, or `mixed`; null where the sale names none.
    #[schema(examples("pago_movil"))]
    pub method: Option<String>,
    #[schema(examples(41))]
    pub sales_count: i64,
    /// Collected less given back, tax included.
    pub amount_bs: Money,
    pub amount_usd: Money,
}

/// One hour of the shop's clock.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HourSales {
    /// When the hour begins, by the shop's clock; no offset.
    #[schema(examples("2026-07-30T14:00:00"))]
    pub hour: String,
    #[schema(examples(18))]
    pub sales_count: i64,
    pub net_bs: Money,
    pub net_usd: Money,
}

/// An earlier day, and how far this one is from it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Comparison {
    #[schema(format = Date, examples("2026-07-29"))]
    pub business_date: String,
    #[schema(examples(198))]
    pub sales_count: i64,
    pub net_bs: Money,
    pub net_usd: Money,
    pub total_bs: Money,
    pub total_usd: Money,
    pub avg_ticket_bs: Option<Money>,
    pub avg_ticket_usd: Option<Money>,
    pub change_percent: Change,
}

/// 100 × (this day − that day) / |that day|, to 1 decimal; null where that day has nothing to compare with.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Change {
    pub sales_count: Option<Number>,
    pub net_bs: Option<Number>,
    pub net_usd: Option<Number>,
    pub avg_ticket_bs: Option<Number>,
    pub avg_ticket_usd: Option<Number>,
}

#[derive(Deserialize)]
struct Compared {
    yesterday: Comparison,
    last_week: Comparison,
}

/// The business day `date` of a shop, or its day now.
pub async fn dashboard(client: &Reader, store: Uuid, date: Option<Date>) -> Result<Dashboard, ReadError> {
    let sql = sql!("dashboard");
    let row = client.query_opt(sql, &[&store, &date]).await.map_err(|error| match error.code() {
        Some(&SqlState::NO_DATA_FOUND) => ReadError::UnknownStore(store),
        _ => error.into(),
    })?;
    // The function raises where there is no such shop.
    let row = row.ok_or(ReadError::UnknownStore(store))?;
    let Json(payment_mix) = row.try_get("payment_mix")?;
    let Json(hourly) = row.try_get("hourly")?;
    let Json(Compared { yesterday, last_week }) = row.try_get("compared")?;
    Ok(Dashboard {
        store_id: row.try_get("store_id")?,
        store_name: row.try_get("store_name")?,
        business_date: row.try_get("business_date")?,
        in_progress: row.try_get("in_progress")?,
        sales_count: row.try_get("sales_count")?,
        returns_count: row.try_get("returns_count")?,
        items_sold: row.try_get("items_sold")?,
        gross_bs: row.try_get("gross_bs")?,
        gross_usd: row.try_get("gross_usd")?,
        discounts_bs: row.try_get("discounts_bs")?,
        discounts_usd: row.try_get("discounts_usd")?,
        returns_bs: row.try_get("returns_bs")?,
        returns_usd: row.try_get("returns_usd")?,
        net_bs: row.try_get("net_bs")?,
        net_usd: row.try_get("net_usd")?,
        tax_bs: row.try_get("tax_bs")?,
        tax_usd: row.try_get("tax_usd")?,
        total_bs: row.try_get("total_bs")?,
        total_usd: row.try_get("total_usd")?,
        avg_ticket_bs: row.try_get("avg_ticket_bs")?,
        avg_ticket_usd: row.try_get("avg_ticket_usd")?,
        items_per_ticket: row.try_get("items_per_ticket")?,
        unique_customers: row.try_get("unique_customers")?,
        payment_mix,
        hourly,
        yesterday,
        last_week,
    })
}
