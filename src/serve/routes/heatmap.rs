//! `GET /v1/stores/{id}/heatmap`

use crate::read::{self, Grain, Heatmap};
use crate::serve::asked::Asked;
use crate::serve::cache::{Answer, Rests, json};
use crate::serve::openapi::{Problems, UnknownStore};
use crate::serve::params::{Params, StoreId, day, default_from, range};
use crate::serve::problem::Problem;
use crate::serve::state::AppState;
use axum::extract::State;

const MAX_DAYS: i64 = 366;

/// A shop's sales by weekday and hour
///
/// All 168 cells. Weekdays are those of the business date, hours those of the shop's clock.
#[utoipa::path(
    get,
    path = "/v1/stores/{id}/heatmap",
    operation_id = "showHeatmap",
    tag = "figures",
    params(
        ("id" = uuid::Uuid, Path, description = "The shop"),
        ("from" = Option<String>, Query, format = Date, description = "First business date, included, 1900-01-01 to 2999-12-31; 29 days before `to` by default. The range spans 366 days at most", example = "2026-07-01"),
        ("to" = Option<String>, Query, format = Date, description = "Last business date, included, 1900-01-01 to 2999-12-31; the shop's today by default", example = "2026-07-30"),
    ),
    responses((status = 200, body = Heatmap, description = "The figures"), UnknownStore, Problems),
)]
pub async fn show(
    State(state): State<AppState>,
    StoreId(id): StoreId,
    asked: Asked,
    mut params: Params,
) -> Result<Answer, Problem> {
    let from = params.take("from", day);
    let to = params.take("to", day);
    params.finish()?;
    let store = state.store(id, &asked).await?;
    let range = range(from, to, store.business_date, MAX_DAYS, |to| default_from(Grain::Day, to))?;
    let rests = Rests { store: id, from: range.from, to: range.to };
    let key = format!("heatmap {id} {} {} {}", range.from, range.to, store.name);
    let load = || async {
        let client = state.client(&asked).await?;
        json(&read::heatmap(&client, &store, range).await?)
    };
    state.answers.get(key, rests, &asked, load).await
}
