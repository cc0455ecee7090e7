//! `GET /v1/stores/{id}/inventory`

use crate::key::Role;
use crate::read::{self, Inventory};
use crate::serve::access::Principal;
use crate::serve::asked::Asked;
use crate::serve::openapi::{Problems, UnknownStore};
use crate::serve::params::{Params, StoreId, up_to};
use crate::serve::problem::Problem;
use crate::serve::state::AppState;
use axum::Json;
use axum::extract::State;

const MAX: u16 = 500;
const DEFAULT: u16 = 50;
const MAX_DAYS: u16 = 366;
const DEFAULT_DAYS: u16 = 90;

/// A shop's stock: its value, what is low or out, and how long it lasts
///
/// Needs a key of role manager. Active products; the rate is that of the last whole business days.
#[utoipa::path(
    get,
    path = "/v1/stores/{id}/inventory",
    operation_id = "showInventory",
    tag = "figures",
    params(
        ("id" = uuid::Uuid, Path, description = "The shop"),
        ("days" = Option<u16>, Query, minimum = 1, maximum = 366, description = "Days that the rate is taken from; 90 by default", example = 90),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 500, description = "At most so many products; 50 by default", example = 50),
    ),
    responses((status = 200, body = Inventory, description = "The stock"), UnknownStore, Problems),
)]
pub async fn show(
    State(state): State<AppState>,
    StoreId(id): StoreId,
    principal: Principal,
    asked: Asked,
    mut params: Params,
) -> Result<Json<Inventory>, Problem> {
    principal.needs(Role::Manager)?;
    let days = params.take("days", up_to(MAX_DAYS)).unwrap_or(DEFAULT_DAYS);
    let limit = params.take("limit", up_to(MAX)).unwrap_or(DEFAULT);
    params.finish()?;
    let client = state.client(&asked).await?;
    let store = read::store(&client, id).await?;
    Ok(Json(read::inventory(&client, &store, days, limit).await?))
}
