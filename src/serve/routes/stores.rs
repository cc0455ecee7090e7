//! `GET /v1/stores`

use crate::read::{self, Store};
use crate::serve::access::Principal;
use crate::serve::asked::Asked;
use crate::serve::cursor;
use crate::serve::openapi::Problems;
use crate::serve::params::{Params, up_to};
use crate::serve::problem::Problem;
use crate::serve::state::AppState;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use serde::Serialize;
use utoipa::ToSchema;

const MAX: u16 = 500;
const DEFAULT: u16 = 100;

const LIST: &str = "stores";

/// Shops in the order of their names.
#[derive(Debug, Serialize, ToSchema)]
pub struct StorePage {
    stores: Vec<Store>,
    /// Send it as `after` to get the next page; null on the last one. Its form may change.
    #[schema(examples("q3Jr0mXkWzEsInN0b3JlcyIsWyJBYmFzdG8iLCIwMDAwMDAwMC0wMDAwLTQwMDAtODAwMC0wMDAwMDAwMDAwMDEiXV0"))]
    next: Option<String>,
}

/// Shops by name
///
/// Those that the caller may see. One page; while `next` is not null, send it as `after` to get the page that follows, or follow the header `Link` of relation `next`.
#[utoipa::path(
    get,
    path = "/v1/stores",
    operation_id = "listStores",
    tag = "figures",
    params(
        ("after" = Option<String>, Query, min_length = 1, max_length = 4096, pattern = "^[A-Za-z0-9_-]+$", description = "The `next` of the page before, as it is"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 500, description = "At most so many shops; 100 by default", example = 100),
    ),
    responses((status = 200, body = StorePage, description = "Shops"), Problems),
)]
pub async fn list(
    State(state): State<AppState>,
    principal: Principal,
    asked: Asked,
    mut params: Params,
) -> Result<(HeaderMap, Json<StorePage>), Problem> {
    let after = params.take("after", cursor::decode(LIST));
    let limit = params.take("limit", up_to(MAX)).unwrap_or(DEFAULT);
    params.finish()?;
    let client = state.client(&asked).await?;
    let (stores, next) = read::stores(&client, &principal.stores.as_list(), after, limit).await?;
    let next = next.map(|place| {
        cursor::encode(LIST, &place).ok_or_else(|| Problem::internal("a shop's name is too long for a cursor"))
    });
    let next = next.transpose()?;
    let mut headers = HeaderMap::new();
    if let Some(next) = &next
        && let Ok(link) = HeaderValue::from_str(&format!("</v1/stores?limit={limit}&after={next}>; rel=\"next\""))
    {
        headers.insert(header::LINK, link);
    }
    Ok((headers, Json(StorePage { stores, next })))
}
