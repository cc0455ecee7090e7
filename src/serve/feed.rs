//! The change feed: one notification a tick on channel `pulso_changes`, sent by whoever folds, says which groups of which
//! rollups have changed. It voids answers in the cache and moves the live streams.
//!
//! The feed counts as connected while the connection answers and a sender is at work: an extension that sends none leaves
//! the cache off. Both are asked for again and again, and believed for a short time only.

use super::cache::{Answers, Order, Sight, days_of};
use super::live::Live;
use crate::db;
use crate::error::{Error, Result};
use jiff::civil::Date;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};
use tokio_postgres::types::PgLsn;
use tokio_postgres::{AsyncMessage, Client, NoTls};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub const CHANNEL: &str = "pulso_changes";
/// How often it is asked whether the connection and the sender live.
const PING: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(3);
const MAX_RETRY: Duration = Duration::from_secs(15);
/// How often an engine without a feed is asked whether it has one by now.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// Notifications waiting to be looked at; more than that and the connection is begun anew.
const MAX_WAITING: usize = 4096;

#[derive(Debug, Deserialize)]
struct Payload {
    seq: u64,
    /// `None`: anything anywhere.
    changes: Option<Vec<RollupChange>>,
}

#[derive(Debug, Deserialize)]
struct RollupChange {
    rollup: String,
    /// `None`: any group.
    keys: Option<Vec<serde_json::Map<String, serde_json::Value>>>,
}

/// Where the feed comes from.
#[derive(Clone)]
pub struct Source {
    pub url: String,
    pub channel: String,
}

/// What changed in a rollup: of one shop, or of any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub rollup: String,
    pub store: Option<Uuid>,
    /// Business dates; `None`: any.
    pub days: Option<BTreeSet<Date>>,
}

/// Follows the feed until `stop`, on a connection of its own.
pub async fn follow(source: Source, answers: Arc<Answers>, live: Arc<Live>, stop: CancellationToken) {
    let work = async {
        let mut retry = Duration::from_secs(1);
        let mut said = String::new();
        loop {
            let began = tokio::time::Instant::now();
            let error = match session(&source, &answers, &live).await {
                Ok(Ended::Connection) => Error::unavailable("the connection ended"),
                Ok(Ended::NoFeed) => {
                    let text = "the engine of this database has no change feed: nothing is cached";
                    if said != text {
                        tracing::info!("{text}");
                        text.clone_into(&mut said);
                    }
                    tokio::time::sleep(ASK_AGAIN).await;
                    continue;
                }
                Err(error) => error,
            };
            answers.feed_ended();
            live.reset(None);
            let text = error.to_string();
            if said != text {
                tracing::warn!(%error, "the change feed is lost; nothing is cached until it is back");
                said = text;
            }
            retry = if began.elapsed() > MAX_RETRY { Duration::from_secs(1) } else { (retry * 2).min(MAX_RETRY) };
            tokio::time::sleep(retry).await;
        }
    };
    stop.run_until_cancelled(work).await.unwrap_or(());
    answers.feed_ended();
}

enum Ended {
    Connection,
    /// The engine sends none: that of tier plain, or of an extension from before it.
    NoFeed,
}

async fn session(source: &Source, answers: &Answers, live: &Live) -> Result<Ended> {
    let mut config = db::config(&source.url)?;
    config.application_name("pulso feed");
    let connect = config.connect(NoTls);
    let (client, mut connection) = tokio::time::timeout(PATIENCE, connect)
        .await
        .map_err(|_| Error::unavailable("the server does not answer"))??;
    let (send, mut notes) = mpsc::channel::<String>(MAX_WAITING);
    let channel = source.channel.clone();
    let driver = tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(note) = message
                && note.channel() == channel
                && send.try_send(note.payload().to_owned()).is_err()
            {
                return;
            }
        }
    });
    let outcome = async {
        let interval = client.query_one(include_str!("../../sql/query/feed_interval.sql"), &[]).await?;
        if interval.try_get::<_, Option<i64>>(0)?.is_none() {
            return Ok(Ended::NoFeed);
        }
        listen(&client, &source.channel, &mut notes, answers, live).await?;
        Ok(Ended::Connection)
    };
    let outcome = outcome.await;
    driver.abort();
    outcome
}

async fn listen(
    client: &Client,
    channel: &str,
    notes: &mut mpsc::Receiver<String>,
    answers: &Answers,
    live: &Live,
) -> Result<()> {
    client.batch_execute(&format!("listen \"{}\"", channel.replace('"', "\"\""))).await?;
    answers.lives_in(client.query_one(include_str!("../../sql/query/server_life.sql"), &[]).await?.try_get(0)?);
    answers.primary_is(client.query_one(include_str!("../../sql/query/primary_history.sql"), &[]).await?.try_get(0)?);
    let (tell, mut told) = mpsc::channel(1);
    let mut watch = std::pin::pin!(watch(client, tell));
    let news = Notify::new();
    let mut look = std::pin::pin!(look(client, &news, answers));
    // When it was last asked whether somebody sends, if somebody does.
    let mut well = None;
    loop {
        tokio::select! {
            // Notifications first: each is older than what is asked beside them.
            biased;
            note = notes.recv() => match note {
                None => return Ok(()),
                Some(text) => {
                    take(&text, well, answers, live);
                    news.notify_one();
                }
            },
            Some(sign) = told.recv() => match sign {
                Sign { runs: true, asked, last } => {
                    well = Some(asked);
                    answers.feed_lives(asked);
                    if let Some(last) = last.filter(|_| channel == CHANNEL && !answers.feed_has_begun()) {
                        begin(last, asked, answers, live);
                    }
                }
                Sign { runs: false, .. } => if well.take().is_some() && answers.feed_has_begun() {
                    tracing::warn!("nobody sends the change feed any more; nothing is cached until somebody does");
                    answers.feed_ended();
                    live.reset(None);
                }
            },
            outcome = &mut watch => return outcome,
            outcome = &mut look => return outcome,
        }
    }
}

/// Looks where the primary is in its log, again and again, and after each notification; ends by a fault.
async fn look(client: &Client, news: &Notify, answers: &Answers) -> Result<()> {
    let question = client.prepare(include_str!("../../sql/query/primary_position.sql")).await?;
    loop {
        // Before it is asked: what was heard by now is in the answer.
        let (asked, heard) = (Instant::now(), answers.heard());
        let row = tokio::time::timeout(PATIENCE, client.query_one(&question, &[])).await;
        let row = row.map_err(|_| Error::unavailable("the server does not answer"))??;
        let position = |column: &str| row.try_get::<_, PgLsn>(column).map(u64::from);
        answers.saw(Sight { asked, heard, written: position("written")?, flushed: position("flushed")? });
        let _ = tokio::time::timeout(PING, news.notified()).await;
    }
}

/// What the server says of the feed.
struct Sign {
    asked: Instant,
    /// Somebody sends it.
    runs: bool,
    /// The number that was given away last, where this role may know it.
    last: Option<u64>,
}

/// Asks again and again whether the connection answers and a sender runs; ends by a fault.
async fn watch(client: &Client, tell: mpsc::Sender<Sign>) -> Result<()> {
    loop {
        let asked = Instant::now();
        let question = client.query_one(include_str!("../../sql/query/feed_sender.sql"), &[]);
        let row = tokio::time::timeout(PATIENCE, question).await;
        let row = row.map_err(|_| Error::unavailable("the server does not answer"))??;
        let last = row.try_get::<_, Option<i64>>("last")?.map(i64::unsigned_abs);
        if tell.send(Sign { asked, runs: row.try_get("runs")?, last }).await.is_err() {
            return Ok(());
        }
        tokio::time::sleep(PING).await;
    }
}

fn begin(at: u64, asked: Instant, answers: &Answers, live: &Live) {
    answers.feed_began(at, asked);
    // What changed while there was no feed was told to nobody.
    live.reset(Some(at));
    tracing::info!("the change feed is connected");
}

/// Takes one notification in, of a sender that was well at `well`.
fn take(text: &str, well: Option<Instant>, answers: &Answers, live: &Live) {
    let payload: Payload = match serde_json::from_str(text) {
        Ok(payload) => payload,
        Err(error) => {
            tracing::warn!(%error, "a notification of the change feed cannot be read; everything counts as changed");
            answers.void_unread();
            live.reset(None);
            return;
        }
    };
    if answers.feed_has_begun() {
        let order = answers.advance(payload.seq);
        if order != Order::Next {
            tracing::warn!(
                number = payload.seq,
                ?order,
                "the change feed skips a number; everything counts as changed"
            );
            live.reset(Some(payload.seq).filter(|_| order == Order::Gap));
            if order == Order::Late {
                return;
            }
        }
    } else if let Some(asked) = well {
        begin(payload.seq, asked, answers, live);
    } else {
        return;
    }
    let Some(rollups) = payload.changes else {
        answers.void_all();
        live.reset(Some(payload.seq));
        return;
    };
    let changes = changes(rollups);
    for change in &changes {
        match change.store {
            None => answers.void_all(),
            Some(store) => {
                let days: Option<Vec<Date>> = change.days.as_ref().map(|days| days.iter().copied().collect());
                answers.void(store, days.as_deref());
            }
        }
    }
    live.tell(payload.seq, changes);
}

/// By rollup and shop.
fn changes(rollups: Vec<RollupChange>) -> Vec<Change> {
    let mut all = Vec::new();
    for RollupChange { rollup, keys } in rollups {
        let Some(keys) = keys else {
            all.push(Change { rollup, store: None, days: None });
            continue;
        };
        let mut by_store: BTreeMap<Option<Uuid>, Option<BTreeSet<Date>>> = BTreeMap::new();
        for group in &keys {
            let store = group.get("store_id").and_then(|id| id.as_str()).and_then(|id| id.parse().ok());
            let days = by_store.entry(store).or_insert_with(|| Some(BTreeSet::new()));
            match (days_of(group), days.as_mut()) {
                (Some(more), Some(days)) => days.extend(more),
                _ => *days = None,
            }
        }
        all.extend(by_store.into_iter().map(|(store, days)| Change {
            rollup: rollup.clone(),
            store,
            days: if store.is_none() { None } else { days },
        }));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_put_together_by_shop() {
        let store = "00000000-0000-4000-8000-000000000001";
        let text = format!(
            r#"{{"seq": 7, "changes": [
                 {{"rollup": "analytics.a", "keys": [{{"store_id": "{store}", "sale_date": "2026-11-25"}}, {{"store_id": "{store}", "sale_date": "2026-11-24"}}]}},
                 {{"rollup": "analytics.b", "keys": [{{"store_id": "{store}", "other": 1}}, {{"store_id": "{store}", "sale_date": "2026-11-24"}}]}},
                 {{"rollup": "analytics.c", "keys": [{{"category": "x"}}]}},
                 {{"rollup": "analytics.d", "keys": null}}]}}"#
        );
        let payload: Payload = serde_json::from_str(&text).expect("a payload");
        let told = changes(payload.changes.expect("changes"));
        let of = |index: usize| (told[index].store.is_some(), told[index].days.as_ref().map(BTreeSet::len));
        assert_eq!((payload.seq, told.len()), (7, 4));
        assert_eq!([of(0), of(1), of(2), of(3)], [(true, Some(2)), (true, None), (false, None), (false, None)]);
    }
}
