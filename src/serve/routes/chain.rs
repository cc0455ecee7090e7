//! `GET /v1/chain`

use crate::read::{self, Chain, Grain};
use crate::serve::access::Principal;
use crate::serve::asked::Asked;
use crate::serve::openapi::Problems;
use crate::serve::params::{Params, day, default_from, range};
use crate::serve::problem::Problem;
use crate::serve::state::AppState;
use axum::Json;
use axum::extract::State;

const MAX_DAYS: i64 = 366;

/// All shops of the caller side by side
///
/// Each against as many days before the range.
#[utoipa::path(
    get,
    path = "/v1/chain",
    operation_id = "showChain",
    tag = "figures",
    params(
        ("from" = Option<String>, Query, format = Date, description = "First business date, included, 1900-01-01 to 2999-12-31; 29 days before `to` by default. The range spans 366 days at most", example = "2026-07-01"),
        ("to" = Option<String>, Query, format = Date, description = "Last business date, included, 1900-01-01 to 2999-12-31; the latest business date of the shops by default", example = "2026-07-30"),
    ),
    responses((status = 200, body = Chain, description = "The shops"), Problems),
)]
pub async fn show(
    State(state): State<AppState>,
    principal: Principal,
    asked: Asked,
    mut params: Params,
) -> Result<Json<Chain>, Problem> {
    let from = params.take("from", day);
    let to = params.take("to", day);
    params.finish()?;
    let only = principal.stores.as_list();
    let client = state.client(&asked).await?;
    let today = read::chain_today(&client, &only).await?;
    let range = range(from, to, today, MAX_DAYS, |to| default_from(Grain::Day, to))?;
    Ok(Json(read::chain(&client, &only, range).await?))
}
