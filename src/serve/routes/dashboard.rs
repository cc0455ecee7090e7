//! `GET /v1/stores/{id}/dashboard`

use crate::read::Dashboard;
use crate::serve::asked::Asked;
use crate::serve::cache::{Answer, Found, Rests, json};
use crate::serve::openapi::{Problems, UnknownStore};
use crate::serve::params::{Params, StoreId, day};
use crate::serve::problem::Problem;
use crate::serve::state::AppState;
use axum::extract::State;
use jiff::ToSpan;
use jiff::civil::Date;

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
    asked: Asked,
    mut params: Params,
) -> Result<Answer, Problem> {
    let date = params.take("date", day);
    params.finish()?;
    let key = |date: Date, in_progress: bool, name: &str| format!("dashboard {id} {date} {in_progress} {name}");
    let rests = |date: Date| Rests { store: id, from: date.saturating_sub(7.days()), to: date };
    if !state.answers.keeps(&asked) {
        // One statement: the shop's name and its today come with the day.
        let load = || async {
            let day = state.dashboard(id, date, &asked).await?;
            let key = key(day.business_date, day.in_progress, &day.store_name);
            Ok(Found { key, rests: rests(day.business_date), body: json(&day)? })
        };
        return state.answers.through(&format!("dashboard {id} {date:?}"), &asked, load).await;
    }
    let store = state.store(id, &asked).await?;
    let today = store.business_date;
    let date = date.unwrap_or(today);
    let load = || async {
        let mut day = state.dashboard(id, Some(date), &asked).await?;
        day.in_progress = date == today;
        json(&day)
    };
    state.answers.get(key(date, date == today, &store.name), rests(date), &asked, load).await
}
