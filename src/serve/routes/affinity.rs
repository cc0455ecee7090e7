//! `GET /v1/stores/{id}/products/affinity`

use crate::read::{self, Affinity, Grain};
use crate::serve::asked::Asked;
use crate::serve::openapi::{Problems, UnknownStore};
use crate::serve::params::{Params, StoreId, day, default_from, range, up_to};
use crate::serve::problem::Problem;
use crate::serve::state::AppState;
use axum::Json;
use axum::extract::State;

const MAX_DAYS: i64 = 93;
const MAX: u16 = 500;
const DEFAULT: u16 = 50;
const MAX_LEAST: u16 = 10_000;
const DEFAULT_LEAST: u16 = 5;

/// Products of a shop that are bought together
#[utoipa::path(
    get,
    path = "/v1/stores/{id}/products/affinity",
    operation_id = "listAffinities",
    tag = "figures",
    params(
        ("id" = uuid::Uuid, Path, description = "The shop"),
        ("from" = Option<String>, Query, format = Date, description = "First business date, included, 1900-01-01 to 2999-12-31; 29 days before `to` by default. The range spans 93 days at most", example = "2026-07-01"),
        ("to" = Option<String>, Query, format = Date, description = "Last business date, included, 1900-01-01 to 2999-12-31; the shop's today by default", example = "2026-07-30"),
        ("least" = Option<u16>, Query, minimum = 1, maximum = 10000, description = "Only pairs in at least so many tickets; 5 by default", example = 5),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 500, description = "At most so many pairs; 50 by default", example = 50),
    ),
    responses((status = 200, body = Affinity, description = "The pairs"), UnknownStore, Problems),
)]
pub async fn show(
    State(state): State<AppState>,
    StoreId(id): StoreId,
    asked: Asked,
    mut params: Params,
) -> Result<Json<Affinity>, Problem> {
    let from = params.take("from", day);
    let to = params.take("to", day);
    let least = params.take("least", up_to(MAX_LEAST)).unwrap_or(DEFAULT_LEAST);
    let limit = params.take("limit", up_to(MAX)).unwrap_or(DEFAULT);
    params.finish()?;
    let client = state.client(&asked).await?;
    let store = read::store(&client, id).await?;
    let range = range(from, to, store.business_date, MAX_DAYS, |to| default_from(Grain::Day, to))?;
    Ok(Json(read::affinity(&client, &store, range, least, limit).await?))
}
