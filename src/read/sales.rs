//! A shop's sales over time.

use super::{DateRange, Money, Number, ReadError, Reader, Store, as_date, sql};
use jiff::civil::Date;
use serde::Serialize;
use std::str::FromStr;
use tokio_postgres::Row;
use utoipa::ToSchema;
use uuid::Uuid;

/// How long a period is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Grain {
    Hour,
    Day,
    /// ISO week: Monday to Sunday.
    Week,
    Month,
}

impl Grain {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// The longest range served, in days: some 744 hours, 1,098 days, 262 weeks or 121 months.
    pub fn max_days(self) -> i64 {
        match self {
            Self::Hour => 31,
            Self::Day => 3 * 366,
            Self::Week => 5 * 366,
            Self::Month => 10 * 366,
        }
    }
}

impl FromStr for Grain {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Hour, Self::Day, Self::Week, Self::Month].into_iter().find(|grain| grain.as_str() == text).ok_or(())
    }
}

/// Every period of a range, in order, with zeros where nothing was sold.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SalesSeries {
    pub store_id: Uuid,
    #[schema(examples("Abasto La Candelaria"))]
    pub store_name: String,
    pub grain: Grain,
    /// First business date, included.
    #[serde(serialize_with = "as_date")]
    #[schema(examples("2026-07-01"))]
    pub from: Date,
    /// Last business date, included.
    #[serde(serialize_with = "as_date")]
    #[schema(examples("2026-07-30"))]
    pub to: Date,
    pub periods: Vec<Period>,
}

/// One period.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Period {
    /// Its first moment: a date (of a week, its Monday; of a month, its first day), or for an hour a time by the shop's clock.
    #[schema(examples("2026-07-27", "2026-07-30T14:00:00"))]
    pub period: String,
    /// Whether the range cuts the week or month: only the days inside it are counted.
    pub partial: bool,
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
    /// Null at grain hour, as are returns, tax and the average ticket.
    pub discounts_bs: Option<Money>,
    pub discounts_usd: Option<Money>,
    pub returns_bs: Option<Money>,
    pub returns_usd: Option<Money>,
    /// gross - discounts - returns
    pub net_bs: Money,
    pub net_usd: Money,
    pub tax_bs: Option<Money>,
    pub tax_usd: Option<Money>,
    /// Collected: net plus tax.
    pub total_bs: Money,
    pub total_usd: Money,
    /// (gross - discounts) / sales_count, to 4 decimals; null without sales.
    pub avg_ticket_bs: Option<Money>,
    pub avg_ticket_usd: Option<Money>,
}

impl Period {
    fn from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            period: row.try_get("period")?,
            partial: row.try_get("partial")?,
            sales_count: row.try_get("sales_count")?,
            returns_count: row.try_get("returns_count")?,
            items: row.try_get("items")?,
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
        })
    }
}

/// The range is the caller's to bound, by `Grain::max_days`.
pub async fn sales(client: &Reader, store: &Store, grain: Grain, range: DateRange) -> Result<SalesSeries, ReadError> {
    let (sql, last): (_, &str) = match grain {
        Grain::Hour => (sql!("sales_by_hour"), &store.day_start),
        _ => (sql!("sales_by_period"), grain.as_str()),
    };
    let rows = client.query(sql, &[&store.id, &range.from, &range.to, &last]).await?;
    Ok(SalesSeries {
        store_id: store.id,
        store_name: store.name.clone(),
        grain,
        from: range.from,
        to: range.to,
        periods: rows.iter().map(Period::from_row).collect::<Result<_, _>>()?,
    })
}
