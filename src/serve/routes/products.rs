//! `GET /v1/stores/{id}/products/top`

use crate::read::{self, Grain, Ranking, TopProducts};
use crate::serve::asked::Asked;
use crate::serve::openapi::{Problems, UnknownStore};
use crate::serve::params::{Params, StoreId, day, default_from, one_of, range, up_to};
use crate::serve::problem::Problem;
use crate::serve::state::AppState;
use axum::Json;
use axum::extract::State;

const MAX: u16 = 100;
const DEFAULT: u16 = 10;
const MAX_DAYS: i64 = 366;

/// A shop's best products
///
/// Completed sales; returns are not deducted. Revenue and margin rank in US dollars: bolívares of two days are not worth the same.
#[utoipa::path(
    get,
    path = "/v1/stores/{id}/products/top",
    operation_id = "listTopProducts",
    tag = "figures",
    params(
        ("id" = uuid::Uuid, Path, description = "The shop"),
        ("from" = Option<String>, Query, format = Date, description = "First business date, included, 1900-01-01 to 2999-12-31; 29 days before `to` by default. The range spans 366 days at most", example = "2026-07-01"),
        ("to" = Option<String>, Query, format = Date, description = "Last business date, included, 1900-01-01 to 2999-12-31; the shop's today by default", example = "2026-07-30"),
        ("by" = Option<Ranking>, Query, description = "What to rank by; `revenue` by default"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 100, description = "At most so many products; 10 by default", example = 10),
    ),
    responses((status = 200, body = TopProducts, description = "The products"), UnknownStore, Problems),
)]
pub async fn top(
    State(state): State<AppState>,
    StoreId(id): StoreId,
    asked: Asked,
    mut params: Params,
) -> Result<Json<TopProducts>, Problem> {
    let from = params.take("from", day);
    let to = params.take("to", day);
    let by = params.take("by", one_of("revenue, units, margin"));
    let limit = params.take("limit", up_to(MAX)).unwrap_or(DEFAULT);
    params.finish()?;
    let client = state.client(&asked).await?;
    let store = read::store(&client, id).await?;
    let range = range(from, to, store.business_date, MAX_DAYS, |to| default_from(Grain::Day, to))?;
    Ok(Json(read::top_products(&client, &store, range, by.unwrap_or(Ranking::Revenue), limit).await?))
}
