//! `GET /v1/stores/{id}/dashboard`

use crate::read::{self, Dashboard};
use crate::serve::cache::{Answer, Rests, json, wants_fresh};
use crate::serve::openapi::{Problems, UnknownStore};
use crate::serve::params::{Params, StoreId, day};
use crate::serve::problem::Problem;
use crate::serve::state::AppState;
use axum::extract::State;
use axum::http::HeaderMap;
use jiff::ToSpan;

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
    headers: HeaderMap,
    mut params: Params,
) -> Result<Answer, Problem> {
    let date = params.take("date", day);
    params.finish()?;
    if !state.answers.is_on() {
        // One statement instead of two.
        let client = state.client().await?;
        return state.answers.past(&read::dashboard(&client, id, date).await?);
    }
    let fresh = wants_fresh(&headers);
    let store = state.store(id, fresh).await?;
    let today = store.business_date;
    let date = date.unwrap_or(today);
    let rests = Rests { store: id, from: date.saturating_sub(7.days()), to: date };
    let key = format!("dashboard {id} {date} {} {}", date == today, store.name);
    let load = || async {
        let client = state.client().await?;
        let mut day = read::dashboard(&client, id, Some(date)).await?;
        day.in_progress = date == today;
        json(&day)
    };
    state.answers.get(key, rests, fresh, load).await
}
