//! The routes, one file a feature.

mod batch;
mod dashboard;
mod health;
mod landing;
mod products;
mod sales;
mod stores;

use super::state::AppState;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Figures: behind the bounds on requests.
pub fn figures() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(stores::list))
        .routes(routes!(dashboard::show))
        .routes(routes!(sales::series))
        .routes(routes!(products::top))
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
