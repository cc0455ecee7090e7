//! `GET /v1/stores/{id}/customers/rfm`

use crate::key::Role;
use crate::read::{self, Rfm};
use crate::serve::access::Principal;
use crate::serve::asked::Asked;
use crate::serve::openapi::{Problems, UnknownStore};
use crate::serve::params::{Params, StoreId, day, range, up_to};
use crate::serve::problem::Problem;
use crate::serve::state::AppState;
use axum::Json;
use axum::extract::State;
use jiff::ToSpan;

const MAX_DAYS: i64 = 731;
const MAX: u16 = 500;
const DEFAULT: u16 = 50;

/// A shop's customers by recency, frequency and money
///
/// Needs a key of role manager.
#[utoipa::path(
    get,
    path = "/v1/stores/{id}/customers/rfm",
    operation_id = "scoreCustomers",
    tag = "figures",
    params(
        ("id" = uuid::Uuid, Path, description = "The shop"),
        ("from" = Option<String>, Query, format = Date, description = "First business date, included, 1900-01-01 to 2999-12-31; 364 days before `to` by default. The range spans 731 days at most", example = "2026-07-01"),
        ("to" = Option<String>, Query, format = Date, description = "Last business date, included, 1900-01-01 to 2999-12-31; the shop's today by default", example = "2026-07-30"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 500, description = "At most so many customers; 50 by default", example = 50),
    ),
    responses((status = 200, body = Rfm, description = "The customers"), UnknownStore, Problems),
)]
pub async fn show(
    State(state): State<AppState>,
    StoreId(id): StoreId,
    principal: Principal,
    asked: Asked,
    mut params: Params,
) -> Result<Json<Rfm>, Problem> {
    principal.needs(Role::Manager)?;
    let from = params.take("from", day);
    let to = params.take("to", day);
    let limit = params.take("limit", up_to(MAX)).unwrap_or(DEFAULT);
    params.finish()?;
    let client = state.client(&asked).await?;
    let store = read::store(&client, id).await?;
    let range = range(from, to, store.business_date, MAX_DAYS, |to| to.saturating_sub(364.days()))?;
    Ok(Json(read::rfm(&client, &store, range, limit).await?))
}
