//! How old the figures are.

use super::{ReadError, Reader, rows, sql};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Every rollup, materialized view and continuous aggregate of the contract.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Freshness {
    pub views: Vec<FreshView>,
}

/// One of them.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FreshView {
    #[schema(examples("analytics.sales_hourly"))]
    pub name: String,
    /// `rollup`: fresh at commit; `materialized view`: as of its last refresh; `continuous aggregate`: new rows at once,
    /// changes of earlier hours as of its last refresh.
    #[schema(examples("rollup"))]
    pub kind: String,
    /// It holds all that was committed by then; null where that is not known.
    #[schema(examples("2026-07-30T14:00:00Z"))]
    pub as_of: Option<String>,
    #[schema(examples(0))]
    pub staleness_seconds: Option<i64>,
    /// Of a rollup: changes that each read adds until they are folded.
    #[schema(examples(12))]
    pub pending_changes: Option<i64>,
    /// What is wrong with it; null when nothing is.
    #[schema(examples("the last refresh failed: division by zero"))]
    pub detail: Option<String>,
}

pub async fn freshness(client: &Reader) -> Result<Freshness, ReadError> {
    Ok(Freshness { views: rows(client, sql!("freshness"), &[]).await? })
}
