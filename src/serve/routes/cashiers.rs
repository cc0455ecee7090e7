//! `GET /v1/stores/{id}/cashiers`

use super::store_and_days;
use crate::key::Role;
use crate::read::{self, Cashiers};
use crate::serve::access::Principal;
use crate::serve::asked::Asked;
use crate::serve::openapi::{Problems, UnknownStore};
use crate::serve::params::{Params, StoreId};
use crate::serve::problem::Problem;
use crate::serve::state::AppState;
use axum::Json;
use axum::extract::State;

const MAX_DAYS: i64 = 93;

/// What each cashier rang up
///
/// Needs a key of role manager. The range spans 93 days at most.
#[utoipa::path(
    get,
    path = "/v1/stores/{id}/cashiers",
    operation_id = "listCashiers",
    tag = "figures",
    params(
        ("id" = uuid::Uuid, Path, description = "The shop"),
        ("from" = Option<String>, Query, format = Date, description = "First business date, included, 1900-01-01 to 2999-12-31; 29 days before `to` by default. The range spans 93 days at most", example = "2026-07-01"),
        ("to" = Option<String>, Query, format = Date, description = "Last business date, included, 1900-01-01 to 2999-12-31; the shop's today by default", example = "2026-07-30"),
    ),
    responses((status = 200, body = Cashiers, description = "The figures"), UnknownStore, Problems),
)]
pub async fn show(
    State(state): State<AppState>,
    StoreId(id): StoreId,
    principal: Principal,
    asked: Asked,
    params: Params,
) -> Result<Json<Cashiers>, Problem> {
    principal.needs(Role::Manager)?;
    let (client, store, range) = store_and_days(&state, id, &asked, params, MAX_DAYS).await?;
    Ok(Json(read::cashiers(&client, &store, range).await?))
}
