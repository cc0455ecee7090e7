//! A shop's business day.

use super::{Money, Number, ReadError, Reader, as_date, sql};
use jiff::civil::{Date, DateTime};
use serde::Serialize;
use std::error::Error;
use std::vec;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};
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
#[derive(Debug, Clone, Serialize, ToSchema)]
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
#[derive(Debug, Clone, Serialize, ToSchema)]
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
#[derive(Debug, Clone, Serialize, ToSchema)]
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
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Change {
    pub sales_count: Option<Number>,
    pub net_bs: Option<Number>,
    pub net_usd: Option<Number>,
    pub avg_ticket_bs: Option<Number>,
    pub avg_ticket_usd: Option<Number>,
}

/// The business day `date` of a shop, or its day now.
pub async fn dashboard(client: &Reader, store: Uuid, date: Option<Date>) -> Result<Dashboard, ReadError> {
    let day = dashboards(client, &[store], date).await?.pop();
    day.ok_or(ReadError::UnknownStore(store))
}

/// The business day `date` of each of these shops that is there, or its day now; in any order, out of one snapshot.
pub async fn dashboards(client: &Reader, stores: &[Uuid], date: Option<Date>) -> Result<Vec<Dashboard>, ReadError> {
    let rows = client.query(sql!("dashboards"), &[&stores, &date]).await?;
    rows.iter().map(|row| Ok(from_row(row)?)).collect()
}

fn from_row(row: &Row) -> Result<Dashboard, tokio_postgres::Error> {
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
        payment_mix: payment_mix(row)?,
        hourly: hourly(row)?,
        yesterday: comparison(row, ["yesterday", "yesterday_sales", "yesterday_amounts", "yesterday_changes"])?,
        last_week: comparison(row, ["last_week", "last_week_sales", "last_week_amounts", "last_week_changes"])?,
    })
}

/// A column that is a list, NULL where that would be empty.
fn list<'a, T: FromSql<'a>>(row: &'a Row, column: &str) -> Result<vec::IntoIter<T>, tokio_postgres::Error> {
    Ok(row.try_get::<_, Option<Vec<T>>>(column)?.unwrap_or_default().into_iter())
}

fn payment_mix(row: &Row) -> Result<Vec<Tender>, tokio_postgres::Error> {
    let (methods, sales) = (list(row, "mix_methods")?, list(row, "mix_sales")?);
    let amounts = list(row, "mix_bs")?.zip(list(row, "mix_usd")?);
    let tenders = methods.zip(sales).zip(amounts);
    Ok(tenders
        .map(|((method, sales_count), (amount_bs, amount_usd))| Tender { method, sales_count, amount_bs, amount_usd })
        .collect())
}

fn hourly(row: &Row) -> Result<Vec<HourSales>, tokio_postgres::Error> {
    let (hours, sales) = (list::<DateTime>(row, "curve_hours")?, list(row, "curve_sales")?);
    let amounts = list(row, "curve_bs")?.zip(list(row, "curve_usd")?);
    let curve = hours.zip(sales).zip(amounts);
    Ok(curve
        .map(|((hour, sales_count), (net_bs, net_usd))| HourSales {
            hour: hour.to_string(),
            sales_count,
            net_bs,
            net_usd,
        })
        .collect())
}

/// From the columns of an earlier day: its date, sales, amounts and changes.
fn comparison(row: &Row, [day, sales, amounts, changes]: [&str; 4]) -> Result<Comparison, tokio_postgres::Error> {
    let [net_bs, net_usd, total_bs, total_usd, avg_ticket_bs, avg_ticket_usd] =
        row.try_get::<_, Fixed<Money, 6>>(amounts)?.0;
    let [sales_count, change_bs, change_usd, ticket_bs, ticket_usd] = row.try_get::<_, Fixed<Number, 5>>(changes)?.0;
    // The statement has 0 where there is nothing.
    let amount = |amount: Option<Money>| amount.unwrap_or_else(|| Money::new("0"));
    Ok(Comparison {
        business_date: row.try_get::<_, Date>(day)?.to_string(),
        sales_count: row.try_get(sales)?,
        net_bs: amount(net_bs),
        net_usd: amount(net_usd),
        total_bs: amount(total_bs),
        total_usd: amount(total_usd),
        avg_ticket_bs,
        avg_ticket_usd,
        change_percent: Change {
            sales_count,
            net_bs: change_bs,
            net_usd: change_usd,
            avg_ticket_bs: ticket_bs,
            avg_ticket_usd: ticket_usd,
        },
    })
}

/// A list of a length that the statement fixes.
struct Fixed<T, const N: usize>([Option<T>; N]);

impl<'a, T: FromSql<'a>, const N: usize> FromSql<'a> for Fixed<T, N> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let items = Vec::<Option<T>>::from_sql(ty, raw)?;
        let items = items.try_into().map_err(|items: Vec<_>| format!("a list of {} instead of {N}", items.len()))?;
        Ok(Self(items))
    }

    fn accepts(ty: &Type) -> bool {
        Vec::<Option<T>>::accepts(ty)
    }
}
