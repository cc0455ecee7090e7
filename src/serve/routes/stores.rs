//! `GET /v1/stores`

use crate::read::{self, StorePage};
use crate::serve::access::Principal;
use crate::serve::openapi::Problems;
use crate::serve::params::{Params, up_to, uuid};
use crate::serve::problem::Problem;
use crate::serve::state::AppState;
use axum::Json;
use axum::extract::State;

const MAX: u16 = 500;
const DEFAULT: u16 = 100;

/// Shops by name
///
/// Those that the caller may see. One page; while `next` is not null, send it as `after` to get the page that follows.
#[utoipa::path(
    get,
    path = "/v1/stores",
    operation_id = "listStores",
    tag = "figures",
    params(
        ("after" = Option<uuid::Uuid>, Query, description = "The `next` of the page before; an unknown shop ends the list"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 500, description = "At most so many shops; 100 by default", example = 100),
    ),
    responses((status = 200, body = StorePage, description = "Shops"), Problems),
)]
pub async fn list(
    State(state): State<AppState>,
    principal: Principal,
    mut params: Params,
) -> Result<Json<StorePage>, Problem> {
    let after = params.take("after", uuid);
    let limit = params.take("limit", up_to(MAX)).unwrap_or(DEFAULT);
    params.finish()?;
    let client = state.client().await?;
    Ok(Json(read::stores(&client, &principal.stores.as_list(), after, limit).await?))
}
