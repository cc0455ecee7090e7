//! How a shop was paid.

use super::{DateRange, Money, Number, ReadError, Reader, Store, as_date, rows, sql};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Ways of paying, the largest amount first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Payments {
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
    /// Sales by the way they were paid; those paid in several ways are `mixed`.
    pub methods: Vec<PaymentMethod>,
    /// Money by tender and currency, each tender of a mixed sale apart, change deducted.
    pub tenders: Vec<TenderTotal>,
}

/// What one way of paying brought in: returns deducted, tax included.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PaymentMethod {
    /// The single tender used, or `mixed`; null where the sale names none.
    #[schema(examples("pago_movil"))]
    pub method: Option<String>,
    #[schema(examples(41))]
    pub sales_count: i64,
    pub amount_bs: Money,
    pub amount_usd: Money,
    /// 100 × amount_usd / amount_usd of all, to 1 decimal; null where that is zero.
    pub share_percent: Option<Number>,
}

/// Money of one tender in one currency.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TenderTotal {
    #[schema(examples("cash_usd"))]
    pub method: String,
    #[schema(examples("USD"))]
    pub currency: String,
    /// Rows of payment, change given back among them.
    #[schema(examples(52))]
    pub payments: i64,
    /// In the tender's own currency.
    pub amount: Money,
    pub amount_bs: Money,
    pub amount_usd: Money,
}

/// The range is the caller's to bound.
pub async fn payments(client: &Reader, store: &Store, range: DateRange) -> Result<Payments, ReadError> {
    let methods = sql!("payments");
    let tenders = sql!("tenders");
    Ok(Payments {
        store_id: store.id,
        store_name: store.name.clone(),
        from: range.from,
        to: range.to,
        methods: rows(client, methods, &[&store.id, &range.from, &range.to]).await?,
        tenders: rows(client, tenders, &[&store.id, &range.from, &range.to]).await?,
    })
}
