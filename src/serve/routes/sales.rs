//! `GET /v1/stores/{id}/sales`

use crate::read::{self, Grain, SalesSeries};
use crate::serve::asked::Asked;
use crate::serve::cache::{Answer, Rests, json};
use crate::serve::openapi::{Problems, UnknownStore};
use crate::serve::params::{Params, StoreId, day, default_from, one_of, range};
use crate::serve::problem::Problem;
use crate::serve::state::AppState;
use axum::extract::State;

/// A shop's sales over time
///
/// Every period from `from` to `to`, in order, with zeros where nothing was sold. Weeks are ISO weeks.
/// Hours are those of the shop's clock, 24 for each business day; an hour that the clock skips stays at zero, one that it repeats holds both.
#[utoipa::path(
    get,
    path = "/v1/stores/{id}/sales",
    operation_id = "listSales",
    tag = "figures",
    params(
        ("id" = uuid::Uuid, Path, description = "The shop"),
        ("grain" = Option<Grain>, Query, description = "How long a period is; `day` by default. A range spans 31 days at most by hour, 1,098 by day, 1,830 by week, 3,660 by month"),
        ("from" = Option<String>, Query, format = Date, description = "First business date, included, 1900-01-01 to 2999-12-31; by default such that the series holds the hours of one day, 30 days, 12 weeks or 12 months", example = "2026-07-01"),
        ("to" = Option<String>, Query, format = Date, description = "Last business date, included, 1900-01-01 to 2999-12-31; the shop's today by default", example = "2026-07-30"),
    ),
    responses((status = 200, body = SalesSeries, description = "The series"), UnknownStore, Problems),
)]
pub async fn series(
    State(state): State<AppState>,
    StoreId(id): StoreId,
    asked: Asked,
    mut params: Params,
) -> Result<Answer, Problem> {
    let grain = params.take("grain", one_of("hour, day, week, month"));
    let from = params.take("from", day);
    let to = params.take("to", day);
    params.finish()?;
    let grain = grain.unwrap_or(Grain::Day);
    let store = state.store(id, &asked).await?;
    let range = range(from, to, store.business_date, grain.max_days(), |to| default_from(grain, to))?;
    let rests = Rests { store: id, from: range.from, to: range.to };
    let key = format!("sales {id} {} {} {} {}", range.from, range.to, grain.as_str(), store.name);
    let load = || async {
        let client = state.client(&asked).await?;
        json(&read::sales(&client, &store, grain, range).await?)
    };
    state.answers.get(key, rests, &asked, load).await
}
