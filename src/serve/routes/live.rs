//! `GET /v1/live`: what changed, as server-sent events or over a WebSocket.

use crate::serve::access::{Principal, Scope};
use crate::serve::live::{Interest, Reader, Told, converse};
use crate::serve::openapi::Problems;
use crate::serve::params::{Params, uuid};
use crate::serve::problem::{FieldError, Problem};
use crate::serve::state::AppState;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;
use uuid::Uuid;

const KEEP_ALIVE: Duration = Duration::from_secs(15);
const MAX_STORES: usize = 100;
/// A client's message is a list of shops at most.
const MAX_MESSAGE: usize = 8 * 1024;
/// The WebSocket protocol, named by clients that send their key beside it.
const PROTOCOL: &str = "pulso.v1";

/// What changes, as it changes
///
/// Server-sent events. `change` names a shop (null: any), a rollup, its business dates (null: any) and the `kpis` that rest on it: they should be read again. `reset` says that something may have been missed: read everything again. Send the last `id` as `Last-Event-ID` to go on from there, to this node or another. With `Upgrade: websocket` the same comes over a WebSocket, as JSON messages.
#[utoipa::path(
    get,
    path = "/v1/live",
    operation_id = "streamChanges",
    tag = "figures",
    params(
        ("stores" = Option<String>, Query, description = "Only these shops, separated by commas, 100 at most; all that the caller may see by default"),
        ("kpis" = Option<String>, Query, description = "Only what these figures rest on, separated by commas: abc, affinity, breakdown, cashiers, categories, chain, customers, dashboard, heatmap, payments, products, sales; everything by default", example = "dashboard"),
        ("last_event_id" = Option<u64>, Query, description = "As `Last-Event-ID`, for clients that cannot send headers"),
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event received"),
    ),
    responses(
        (status = 200, body = String, content_type = "text/event-stream", description = "The events"),
        (status = 101, description = "The WebSocket, where one was asked for"),
        Problems
    ),
)]
pub async fn stream(
    State(state): State<AppState>,
    principal: Principal,
    headers: HeaderMap,
    mut params: Params,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let stores = params.take("stores", |text| stores(text.split(',')));
    let kpis = params.take("kpis", |text| kpis(text.split(',')));
    let asked = params.take("last_event_id", |text| text.parse::<u64>().map_err(|_| "must be a number".to_owned()));
    params.finish()?;
    let interest = interest(stores, kpis, &principal)
        .map_err(|detail| Problem::invalid(vec![FieldError::new("stores", detail)]))?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    // An id that is no number was never ours: begin anew.
    let last = last.map(|text| text.parse().unwrap_or(u64::MAX)).or(asked);
    let wants_socket =
        headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let upgrade = match upgrade {
        Ok(upgrade) => Some(upgrade),
        Err(rejection) if wants_socket => {
            return Err(Problem::invalid(vec![FieldError::new("upgrade", rejection.body_text())]));
        }
        Err(_) => None,
    };
    if upgrade.is_some() && !may_connect(&headers, &state.cors) {
        return Err(Problem::foreign_origin());
    }
    let subscription = state.live.subscribe(last).ok_or_else(Problem::busy)?;
    let reader = Reader::new(subscription, interest, state.stop.clone());
    let Some(upgrade) = upgrade else {
        let events = stream::unfold(reader, |mut reader| async move {
            reader.next().await.map(|told| (Ok::<_, Infallible>(event(&told)), reader))
        });
        return Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response());
    };
    // The service waits for its streams to say goodbye.
    let open = state.sockets.token();
    Ok(upgrade
        .protocols([PROTOCOL])
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .read_buffer_size(4096)
        .write_buffer_size(0)
        .on_upgrade(async move |socket| {
            converse(socket, reader, principal, asked_for).await;
            drop(open);
        }))
}

/// A WebSocket message of the client.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    stores: Option<Vec<String>>,
    kpis: Option<Vec<String>>,
}

fn asked_for(text: &str, principal: &Principal) -> Result<Interest, String> {
    let wish: Wish = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let stores = wish.stores.map(|ids| stores(ids.iter().map(String::as_str))).transpose()?;
    let kpis = wish.kpis.map(|names| kpis(names.iter().map(String::as_str))).transpose()?;
    interest(stores, kpis, principal)
}

fn interest(
    stores: Option<BTreeSet<Uuid>>,
    kpis: Option<BTreeSet<&'static str>>,
    principal: &Principal,
) -> Result<Interest, String> {
    match stores.iter().flatten().find(|store| !principal.stores.holds(**store)) {
        Some(other) => Err(format!("there is no store {other}; /v1/stores lists them")),
        None => Ok(Interest { stores: stores.map_or_else(|| principal.stores.clone(), Scope::Only), kpis }),
    }
}

fn stores<'a>(ids: impl Iterator<Item = &'a str>) -> Result<BTreeSet<Uuid>, String> {
    let stores = ids.map(uuid).collect::<Result<BTreeSet<_>, _>>()?;
    if stores.len() > MAX_STORES { Err(format!("at most {MAX_STORES} shops")) } else { Ok(stores) }
}

fn kpis<'a>(names: impl Iterator<Item = &'a str>) -> Result<BTreeSet<&'static str>, String> {
    names.map(Interest::kpi).collect()
}

/// Whether a page may open a WebSocket, which no browser asks about beforehand: one of this service's own address, or of
/// an origin that may ask for figures. What is no browser sends no origin.
fn may_connect(headers: &HeaderMap, origins: &[HeaderValue]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let authority =
        |value: &HeaderValue| value.to_str().ok()?.parse::<Uri>().ok()?.authority().map(ToString::to_string);
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    origins.contains(origin) || (host.is_some() && authority(origin).as_deref() == host)
}

fn event(told: &Told) -> Event {
    match told {
        Told::Reset => Event::default().event("reset").data("{}"),
        Told::Change(id, changed) => {
            let event = Event::default().event("change");
            // Names, numbers and text: always JSON.
            let event = event.data(serde_json::to_string(changed).unwrap_or_default());
            match id {
                Some(id) => event.id(id.to_string()),
                None => event,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_origins_open_no_socket() {
        let of = |origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:8080"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            may_connect(&headers, &[HeaderValue::from_static("https://panel.example")])
        };
        assert!(of(None) && of(Some("https://panel.example")) && of(Some("http://127.0.0.1:8080")));
        assert!(!of(Some("https://evil.example")) && !of(Some("http://127.0.0.1:8081")) && !of(Some("null")));
    }
}
