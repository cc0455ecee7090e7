//! A stream as a WebSocket: events out as JSON text, subscriptions in.

use super::reader::{Interest, Reader, Told};
use crate::serve::access::Principal;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use serde::Serialize;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

const PING: Duration = Duration::from_secs(15);
/// A client that says nothing for so long, not even a pong, is gone.
const SILENCE: Duration = Duration::from_secs(45);
/// A client that takes nothing in for so long is let go.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads a client's wish to hear of other shops or figures.
pub type Parse = fn(&str, &Principal) -> Result<Interest, String>;

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Frame<'a> {
    Change {
        id: Option<u64>,
        #[serde(flatten)]
        changed: &'a super::reader::Changed,
    },
    Reset,
    Subscribed {
        kpis: Option<Vec<&'static str>>,
    },
}

/// Talks with one client until either has enough.
pub async fn converse(mut socket: WebSocket, mut reader: Reader, principal: Principal, parse: Parse) {
    let mut ping = interval_at(Instant::now() + PING, PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    let (code, reason) = loop {
        let sent = tokio::select! {
            told = reader.next() => match told {
                Some(told) => send(&mut socket, &frame(&told)).await,
                None => break (close_code::AWAY, "come back with the last id"),
            },
            message = socket.recv() => {
                heard = Instant::now();
                match message {
                    Some(Ok(Message::Text(text))) => match parse(&text, &principal) {
                        Ok(interest) => {
                            let kpis = interest.kpis.as_ref().map(|kpis| kpis.iter().copied().collect());
                            reader.interest = interest;
                            send(&mut socket, &text_of(&Frame::Subscribed { kpis })).await
                        }
                        Err(detail) => {
                            let detail = detail.chars().take(100).collect::<String>();
                            close(&mut socket, close_code::POLICY, &detail).await;
                            return;
                        }
                    },
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => true,
                    Some(Ok(Message::Binary(_))) => break (close_code::UNSUPPORTED, "messages are text"),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                }
            },
            _ = ping.tick() => heard.elapsed() < SILENCE && put(&mut socket, Message::Ping(Default::default())).await,
        };
        if !sent {
            return;
        }
    };
    close(&mut socket, code, reason).await;
}

fn frame(told: &Told) -> String {
    match told {
        Told::Change(id, changed) => text_of(&Frame::Change { id: *id, changed }),
        Told::Reset => text_of(&Frame::Reset),
    }
}

fn text_of(frame: &Frame<'_>) -> String {
    // Names, numbers and text: always JSON.
    serde_json::to_string(frame).unwrap_or_default()
}

/// Whether the client takes it in.
async fn send(socket: &mut WebSocket, text: &str) -> bool {
    put(socket, Message::Text(text.into())).await
}

async fn put(socket: &mut WebSocket, message: Message) -> bool {
    matches!(timeout(PATIENCE, socket.send(message)).await, Ok(Ok(())))
}

/// Says why, and waits a moment for the client to have heard it.
async fn close(socket: &mut WebSocket, code: u16, reason: &str) {
    let frame = CloseFrame { code, reason: reason.into() };
    let goodbye = async {
        if socket.send(Message::Close(Some(frame))).await.is_ok() {
            while matches!(socket.recv().await, Some(Ok(_))) {}
        }
    };
    let _ = timeout(Duration::from_secs(2), goodbye).await;
}
