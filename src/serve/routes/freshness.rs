//! `GET /v1/freshness`

use crate::key::Role;
use crate::read::{self, Freshness};
use crate::serve::access::Principal;
use crate::serve::openapi::Problems;
use crate::serve::params::Params;
use crate::serve::problem::Problem;
use crate::serve::state::AppState;
use axum::Json;
use axum::extract::State;

/// How old the figures of each rollup and materialized view are
///
/// Needs a key of role admin.
#[utoipa::path(
    get,
    path = "/v1/freshness",
    operation_id = "listFreshness",
    tag = "service",
    responses((status = 200, body = Freshness, description = "The views"), Problems),
)]
pub async fn show(
    State(state): State<AppState>,
    principal: Principal,
    params: Params,
) -> Result<Json<Freshness>, Problem> {
    principal.needs(Role::Admin)?;
    params.finish()?;
    Ok(Json(read::freshness(&state.primary().await?).await?))
}
