//! `GET /health` and `GET /ready`: whether to restart this process, and whether to send it requests.

use crate::read;
use crate::serve::openapi::Unready;
use crate::serve::problem::Problem;
use crate::serve::state::AppState;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    #[schema(examples("up"))]
    status: &'static str,
    #[schema(examples("0.2.0"))]
    version: &'static str,
}

/// Whether the process runs
///
/// Asks nothing of the database.
#[utoipa::path(get, path = "/health", operation_id = "health", tag = "service", responses((status = 200, body = Health, description = "It does")))]
pub async fn health() -> Json<Health> {
    Json(Health { status: "up", version: env!("CARGO_PKG_VERSION") })
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Ready {
    #[schema(examples("ready"))]
    status: &'static str,
}

/// Whether figures can be served
///
/// The database answers and holds the contract.
#[utoipa::path(get, path = "/ready", operation_id = "ready", tag = "service", responses((status = 200, body = Ready, description = "They can"), Unready))]
pub async fn ready(State(state): State<AppState>) -> Result<Json<Ready>, Problem> {
    let client = state.primary().await?;
    if read::is_migrated(&client).await? {
        return Ok(Json(Ready { status: "ready" }));
    }
    Err(Problem::from(read::ReadError::NotMigrated("an object of the contract is missing".to_owned())))
}
