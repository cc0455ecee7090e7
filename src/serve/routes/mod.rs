//! The routes, one file a feature.

mod abc;
mod affinity;
mod batch;
mod breakdown;
mod cashiers;
mod categories;
mod chain;
mod customers;
mod dashboard;
mod freshness;
mod health;
mod heatmap;
mod inventory;
mod landing;
mod live;
mod payments;
mod products;
mod rfm;
mod sales;
mod stores;

use super::asked::Asked;
use super::params::{Params, day, default_from, range};
use super::problem::Problem;
use super::state::AppState;
use crate::read::{self, DateRange, Grain, Reader, Store};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// Figures: behind the bounds on requests.
pub fn figures() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(stores::list))
        .routes(routes!(dashboard::show))
        .routes(routes!(sales::series))
        .routes(routes!(products::top))
        .routes(routes!(abc::show))
        .routes(routes!(affinity::show))
        .routes(routes!(rfm::show))
        .routes(routes!(breakdown::show))
        .routes(routes!(categories::show))
        .routes(routes!(payments::show))
        .routes(routes!(heatmap::show))
        .routes(routes!(customers::show))
        .routes(routes!(cashiers::show))
        .routes(routes!(inventory::show))
        .routes(routes!(chain::show))
        .routes(routes!(live::stream))
        .routes(routes!(freshness::show))
        .routes(routes!(batch::batch))
}

/// What operators and browsers ask: always answered, however busy the figures are.
pub fn service() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
        .routes(routes!(landing::openapi))
        .routes(routes!(landing::landing))
}

/// A shop, the business dates asked of it, and a connection to read them on, where `from` and `to` are all the parameters:
/// 30 days up to the shop's today by default, `max_days` at most.
async fn store_and_days(
    state: &AppState,
    id: Uuid,
    asked: &Asked,
    mut params: Params,
    max_days: i64,
) -> Result<(Reader, Store, DateRange), Problem> {
    let from = params.take("from", day);
    let to = params.take("to", day);
    params.finish()?;
    let client = state.client(asked).await?;
    let store = read::store(&client, id).await?;
    let range = range(from, to, store.business_date, max_days, |to| default_from(Grain::Day, to))?;
    Ok((client, store, range))
}
