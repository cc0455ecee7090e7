//! `GET /v1/stores/{id}/dashboard`

use crate::read::{self, Dashboard};
use crate::serve::openapi::{Problems, UnknownStore};
use crate::serve::params::{Params, StoreId, day};
use crate::serve::problem::Problem;
use crate::serve::state::AppState;
use axum::Json;
use axum::extract::State;

/// A shop's business day
///
/// Totals, payment mix and hourly curve of one business day, against the day before and the same weekday a week before.
#[utoipa::path(
    get,
    path = "/v1/stores/{id}/dashboard",
    operation_id = "showDashboard",
    tag = "figures",
    params(
        ("id" = uuid::Uuid, Path, description = "The shop"),
        ("date" = Option<String>, Query, format = Date, description = "Business date, 1900-01-01 to 2999-12-31; the shop's today by default", example = "2026-07-30"),
    ),
    responses((status = 200, body = Dashboard, description = "The business day"), UnknownStore, Problems),
)]
pub async fn show(
    State(state): State<AppState>,
    StoreId(id): StoreId,
    mut params: Params,
) -> Result<Json<Dashboard>, Problem> {
    let date = params.take("date", day);
    params.finish()?;
    let client = state.client().await?;
    Ok(Json(read::dashboard(&client, id, date).await?))
}
