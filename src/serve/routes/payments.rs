//! `GET /v1/stores/{id}/payments`

use super::store_and_days;
use crate::read::{self, Payments};
use crate::serve::asked::Asked;
use crate::serve::openapi::{Problems, UnknownStore};
use crate::serve::params::{Params, StoreId};
use crate::serve::problem::Problem;
use crate::serve::state::AppState;
use axum::Json;
use axum::extract::State;

const MAX_DAYS: i64 = 93;

/// How a shop was paid
///
/// By way of paying, and by tender and currency; returns are deducted, tax is included.
#[utoipa::path(
    get,
    path = "/v1/stores/{id}/payments",
    operation_id = "showPayments",
    tag = "figures",
    params(
        ("id" = uuid::Uuid, Path, description = "The shop"),
        ("from" = Option<String>, Query, format = Date, description = "First business date, included, 1900-01-01 to 2999-12-31; 29 days before `to` by default. The range spans 93 days at most", example = "2026-07-01"),
        ("to" = Option<String>, Query, format = Date, description = "Last business date, included, 1900-01-01 to 2999-12-31; the shop's today by default", example = "2026-07-30"),
    ),
    responses((status = 200, body = Payments, description = "The figures"), UnknownStore, Problems),
)]
pub async fn show(
    State(state): State<AppState>,
    StoreId(id): StoreId,
    asked: Asked,
    params: Params,
) -> Result<Json<Payments>, Problem> {
    let (client, store, range) = store_and_days(&state, id, &asked, params, MAX_DAYS).await?;
    Ok(Json(read::payments(&client, &store, range).await?))
}
