//! `GET /v1/stores/{id}/sales/breakdown`

use crate::read::{self, Dimension, Grain, SalesBreakdown};
use crate::serve::asked::Asked;
use crate::serve::cache::{Answer, Rests, json};
use crate::serve::openapi::{Problems, UnknownStore};
use crate::serve::params::{Params, StoreId, day, default_from, one_of, range};
use crate::serve::problem::Problem;
use crate::serve::state::AppState;
use axum::extract::State;

const MAX_DAYS: i64 = 1098;

/// A shop's sales by hour, weekday or month
///
/// Every hour of the clock, weekday or month of the range, zeros where nothing was sold. `days` says how many days of the range belong to the row, so that weekdays can be compared.
#[utoipa::path(
    get,
    path = "/v1/stores/{id}/sales/breakdown",
    operation_id = "breakDownSales",
    tag = "figures",
    params(
        ("id" = uuid::Uuid, Path, description = "The shop"),
        ("from" = Option<String>, Query, format = Date, description = "First business date, included, 1900-01-01 to 2999-12-31; 29 days before `to` by default. The range spans 1,098 days at most", example = "2026-07-01"),
        ("to" = Option<String>, Query, format = Date, description = "Last business date, included, 1900-01-01 to 2999-12-31; the shop's today by default", example = "2026-07-30"),
        ("by" = Option<Dimension>, Query, description = "By what; `weekday` by default"),
    ),
    responses((status = 200, body = SalesBreakdown, description = "The figures"), UnknownStore, Problems),
)]
pub async fn show(
    State(state): State<AppState>,
    StoreId(id): StoreId,
    asked: Asked,
    mut params: Params,
) -> Result<Answer, Problem> {
    let from = params.take("from", day);
    let to = params.take("to", day);
    let by = params.take("by", one_of("hour, weekday, month"));
    params.finish()?;
    let by = by.unwrap_or(Dimension::Weekday);
    let store = state.store(id, &asked).await?;
    let range = range(from, to, store.business_date, MAX_DAYS, |to| default_from(Grain::Day, to))?;
    let rests = Rests { store: id, from: range.from, to: range.to };
    let key = format!("breakdown {id} {} {} {} {}", range.from, range.to, by.as_str(), store.name);
    let load = || async {
        let client = state.client(&asked).await?;
        json(&read::sales_breakdown(&client, &store, range, by).await?)
    };
    state.answers.get(key, rests, &asked, load).await
}
