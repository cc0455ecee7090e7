//! `GET /v1/live`: what changed, as server-sent events.

use crate::serve::access::{Principal, Scope};
use crate::serve::feed::Change;
use crate::serve::live::{News, Subscription};
use crate::serve::openapi::Problems;
use crate::serve::params::{Params, uuid};
use crate::serve::problem::{FieldError, Problem};
use crate::serve::state::AppState;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use serde_json::json;
use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A stream ends after so long; clients come back with `Last-Event-ID`, and their keys are looked at again.
const LIFETIME: Duration = Duration::from_secs(3600);
const MAX_STORES: usize = 100;

/// What changes, as it changes
///
/// Server-sent events. `change` names a shop (null: any), a rollup and its business dates (null: any): what rests on them should be read again. `reset` says that something may have been missed: read everything again. Send the last `id` as `Last-Event-ID` to go on from there.
#[utoipa::path(
    get,
    path = "/v1/live",
    operation_id = "streamChanges",
    tag = "figures",
    params(
        ("stores" = Option<String>, Query, description = "Only these shops, separated by commas, 100 at most; all that the caller may see by default"),
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event received"),
    ),
    responses((status = 200, body = String, content_type = "text/event-stream", description = "The events"), Problems),
)]
pub async fn stream(
    State(state): State<AppState>,
    principal: Principal,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let stores = params.take("stores", list);
    params.finish()?;
    if let Some(other) = stores.iter().flatten().find(|store| !principal.stores.holds(**store)) {
        let detail = format!("there is no store {other}; /v1/stores lists them");
        return Err(Problem::invalid(vec![FieldError::new("stores", detail)]));
    }
    let scope = stores.map_or(principal.stores, Scope::Only);
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    // An id that is no number was never ours: begin anew.
    let last = last.map(|text| text.parse().unwrap_or(u64::MAX));
    let subscription = state.live.subscribe(last).ok_or_else(Problem::busy)?;
    let reader = Reader {
        waiting: VecDeque::new(),
        missed: subscription.missed.clone().into(),
        subscription,
        scope,
        stop: state.stop.clone(),
        end: Instant::now() + LIFETIME,
        over: false,
    };
    let events =
        stream::unfold(reader, |mut reader| async move { reader.next().await.map(|event| (Ok(event), reader)) });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn list(text: &str) -> Result<BTreeSet<Uuid>, String> {
    let stores = text.split(',').map(uuid).collect::<Result<BTreeSet<_>, _>>()?;
    if stores.len() > MAX_STORES { Err(format!("at most {MAX_STORES} shops")) } else { Ok(stores) }
}

struct Reader {
    waiting: VecDeque<Event>,
    missed: VecDeque<News>,
    subscription: Subscription,
    scope: Scope,
    stop: CancellationToken,
    end: Instant,
    over: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            let news = match self.missed.pop_front() {
                Some(news) => news,
                None => tokio::select! {
                    news = self.subscription.news.recv() => match news {
                        Ok(news) => news,
                        // Too slow: told so, and let go.
                        Err(RecvError::Lagged(_)) => {
                            self.over = true;
                            News::Reset
                        }
                        Err(RecvError::Closed) => return None,
                    },
                    () = self.stop.cancelled() => return None,
                    () = tokio::time::sleep_until(self.end) => return None,
                },
            };
            match news {
                News::Reset => self.waiting.push_back(Event::default().event("reset").data("{}")),
                News::Changes(seq, changes) => {
                    let seen = changes.iter().filter(|change| change.store.is_none_or(|store| self.scope.holds(store)));
                    self.waiting.extend(seen.map(event));
                    // The last one bears the number: a client that got only some of them asks for all of them again.
                    if let Some(last) = self.waiting.pop_back() {
                        self.waiting.push_back(last.id(seq.to_string()));
                    }
                }
            }
        }
    }
}

fn event(change: &Change) -> Event {
    let days = change.days.as_ref().map(|days| days.iter().map(ToString::to_string).collect::<Vec<_>>());
    let data = json!({ "rollup": change.rollup, "store_id": change.store, "dates": days });
    Event::default().event("change").data(data.to_string())
}
