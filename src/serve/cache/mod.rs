//! Answers kept in memory, and in Redis where nodes share one, for as long as the change feed says that nothing they rest
//! on has changed.
//!
//! Nothing is removed when a change comes: the change is noted in a ledger, and an answer is good only while no change of
//! its shop and days was noted since its read *began*. So whatever order a read, a commit and its announcement come in, an
//! answer that may lack the commit is never given once the commit was announced. Without a feed nothing is kept or given.
//! What Redis holds is no different: each answer bears the number of the feed at which its read began, and a node judges it by
//! its own ledger. Whoever stored it, in whatever order, and however long Redis was away, is of no matter.

mod ledger;

pub use ledger::{Order, Rests, days_of};

use super::metrics::Metrics;
use super::problem::Problem;
use super::shared::Shared;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use jiff::civil::Date;
use ledger::{Began, Ledger};
use moka::notification::RemovalCause;
use moka::sync::Cache;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use uuid::Uuid;

const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// However quiet the feed: no answer is older.
const MAX_AGE: Duration = Duration::from_secs(60);
const STRIPES: usize = 64;

#[derive(Clone)]
struct Entry {
    began: Began,
    body: Bytes,
}

/// Where an answer came from, as `x-pulso-cache` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Hit,
    /// Another node read it.
    Shared,
    Miss,
    Bypass,
}

/// An answer as JSON text.
pub struct Answer {
    pub body: Bytes,
    pub source: Source,
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let source = match self.source {
            Source::Hit => "hit",
            Source::Shared => "shared",
            Source::Miss => "miss",
            Source::Bypass => "bypass",
        };
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (HeaderName::from_static("x-pulso-cache"), HeaderValue::from_static(source)),
        ];
        (headers, self.body).into_response()
    }
}

/// As the body of an answer.
pub fn json(value: &impl Serialize) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(value).map_err(|error| Problem::internal(error.to_string()))
}

/// Whether the caller will have no answer out of a cache.
pub fn wants_fresh(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CACHE_CONTROL).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value
        .split(',')
        .any(|one| matches!(one.trim().to_ascii_lowercase().as_str(), "no-cache" | "no-store" | "max-age=0"))
}

pub struct Answers {
    ledger: RwLock<Ledger>,
    kept: Cache<String, Entry>,
    /// One read at a time of what is asked for by many at once.
    flights: Vec<Mutex<()>>,
    shared: Option<Arc<Shared>>,
    /// Which life of which database the answers are of: the beginning of their names in Redis.
    life: RwLock<String>,
    metrics: Arc<Metrics>,
}

impl Answers {
    pub fn new(metrics: Arc<Metrics>, shared: Option<Arc<Shared>>) -> Self {
        let weight =
            |key: &String, entry: &Entry| u32::try_from(key.len() + entry.body.len() + 128).unwrap_or(u32::MAX);
        let counts = Arc::clone(&metrics);
        let kept = Cache::builder()
            .max_capacity(MAX_BYTES)
            .weigher(weight)
            .time_to_live(MAX_AGE)
            .eviction_listener(move |_, _, cause| match cause {
                RemovalCause::Size => counts.cache.evicted("size"),
                RemovalCause::Expired => counts.cache.evicted("age"),
                RemovalCause::Explicit | RemovalCause::Replaced => {}
            })
            .build();
        Self {
            ledger: RwLock::new(Ledger::default()),
            kept,
            flights: (0..STRIPES).map(|_| Mutex::new(())).collect(),
            shared,
            life: RwLock::default(),
            metrics,
        }
    }

    /// Which life of which database the feed that begins now is of.
    pub fn lives_in(&self, life: &str) {
        *self.life.write().unwrap_or_else(PoisonError::into_inner) =
            hex(&Sha256::digest(format!("{} {life}", env!("CARGO_PKG_VERSION"))));
    }

    /// How many answers are in memory, and how many bytes they take.
    pub fn size(&self) -> (u64, u64) {
        (self.kept.entry_count(), self.kept.weighted_size())
    }

    fn read<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.ledger.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Ledger) -> T) -> T {
        change(&mut self.ledger.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether anything may be kept now.
    pub fn is_on(&self) -> bool {
        self.read(|ledger| ledger.now().is_some())
    }

    pub fn feed_has_begun(&self) -> bool {
        self.read(Ledger::has_begun)
    }

    /// The feed has begun after notification `at`: what is read from now on may be kept.
    pub fn feed_began(&self, at: u64, asked: Instant) {
        self.write(|ledger| ledger.begin(at, asked));
        self.metrics.cache.feed_connected.set(1);
    }

    /// The feed was well when it was asked.
    pub fn feed_lives(&self, asked: Instant) {
        self.write(|ledger| ledger.lives(asked));
    }

    /// The feed is gone: nothing is kept or given.
    pub fn feed_ended(&self) {
        if self.write(Ledger::end) {
            self.metrics.cache.invalidated("feed_lost");
        }
        self.kept.invalidate_all();
        self.metrics.cache.feed_connected.set(0);
    }

    /// Takes the number of a notification in.
    pub fn advance(&self, seq: u64) -> Order {
        let order = self.write(|ledger| ledger.advance(seq));
        if order != Order::Next {
            self.kept.invalidate_all();
            self.metrics.cache.invalidated(if order == Order::Gap { "gap" } else { "late" });
        }
        order
    }

    /// The notification just taken in tells that anything may have changed.
    pub fn void_all(&self) {
        self.write(Ledger::void_all);
        self.kept.invalidate_all();
        self.metrics.cache.invalidated("rollup");
    }

    /// A notification could not be read.
    pub fn void_unread(&self) {
        self.write(Ledger::void_all_until_next);
        self.kept.invalidate_all();
        self.metrics.cache.invalidated("unreadable");
    }

    /// The notification just taken in tells of a shop: on these days, or on any.
    pub fn void(&self, store: Uuid, days: Option<&[Date]>) {
        self.write(|ledger| ledger.void(store, days));
        self.metrics.cache.invalidated("change");
    }

    /// The answer kept under `key` if it is still good, else that of `load`, which is kept. `fresh` never takes a kept one.
    pub async fn get<E, F>(&self, key: String, rests: Rests, fresh: bool, load: impl FnOnce() -> F) -> Result<Answer, E>
    where
        F: Future<Output = Result<Vec<u8>, E>>,
    {
        if fresh || !self.is_on() {
            self.metrics.cache.bypassed.inc();
            let body = self.load(key, &rests, load).await?;
            return Ok(Answer { body, source: Source::Bypass });
        }
        if let Some(body) = self.good(&key, &rests) {
            self.metrics.cache.hit("memory");
            return Ok(Answer { body, source: Source::Hit });
        }
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let stripe = usize::try_from(hasher.finish() % STRIPES as u64).unwrap_or(0);
        let _flight = self.flights[stripe].lock().await;
        // Another may have read it while this one waited; a change since then makes it void for both.
        if let Some(body) = self.good(&key, &rests) {
            self.metrics.cache.hit("memory");
            return Ok(Answer { body, source: Source::Hit });
        }
        self.metrics.cache.missed("memory");
        if let Some(body) = self.shared_good(&key, &rests).await {
            return Ok(Answer { body, source: Source::Shared });
        }
        let body = self.load(key, &rests, load).await?;
        Ok(Answer { body, source: Source::Miss })
    }

    /// An answer that is neither taken from here nor kept.
    pub fn past(&self, value: &impl Serialize) -> Result<Answer, Problem> {
        self.metrics.cache.bypassed.inc();
        Ok(Answer { body: json(value)?.into(), source: Source::Bypass })
    }

    fn good(&self, key: &str, rests: &Rests) -> Option<Bytes> {
        let entry = self.kept.get(key)?;
        self.read(|ledger| ledger.holds(entry.began, rests)).then_some(entry.body)
    }

    async fn load<E, F>(&self, key: String, rests: &Rests, load: impl FnOnce() -> F) -> Result<Bytes, E>
    where
        F: Future<Output = Result<Vec<u8>, E>>,
    {
        let name = self.shared.as_ref().map(|_| self.shared_key(&key));
        // Before the read: what changes from here on may be missing in it.
        let began = self.read(Ledger::now);
        let body = Bytes::from(load().await?);
        if let Some(began) = began
            && self.read(|ledger| ledger.holds(began, rests))
        {
            if let (Some(shared), Some(name)) = (&self.shared, name) {
                shared.put(name, [&began.at.to_be_bytes(), body.as_ref()].concat(), MAX_AGE);
            }
            self.kept.insert(key, Entry { began, body: body.clone() });
        }
        Ok(body)
    }

    /// An answer that another node has read, if it is good here; from now on it is kept here too.
    async fn shared_good(&self, key: &str, rests: &Rests) -> Option<Bytes> {
        let shared = self.shared.as_ref()?;
        // Of this connection of the feed: the name was made in its life, whatever begins while Redis answers.
        let era = self.read(Ledger::now)?.era;
        let value = shared.get::<Vec<u8>>(&self.shared_key(key)).await;
        let good = value.as_deref().and_then(<[u8]>::split_first_chunk).and_then(|(at, body)| {
            let began = Began { era, at: u64::from_be_bytes(*at) };
            self.read(|ledger| ledger.holds(began, rests)).then(|| Entry { began, body: Bytes::copy_from_slice(body) })
        });
        let Some(entry) = good else {
            self.metrics.cache.missed("redis");
            return None;
        };
        self.metrics.cache.hit("redis");
        self.kept.insert(key.to_owned(), entry.clone());
        Some(entry.body)
    }

    fn shared_key(&self, key: &str) -> String {
        let life = self.life.read().unwrap_or_else(PoisonError::into_inner);
        format!("pulso:answer:{life}:{}", hex(&Sha256::digest(key)))
    }
}

/// The first half of a hash: nobody finds two texts with one of 128 bits.
fn hex(hash: &[u8]) -> String {
    hash.iter().take(16).fold(String::new(), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::ledger::MAX_DAYS;
    use super::*;
    use jiff::ToSpan;
    use jiff::civil::date;
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicU32, Ordering};

    const STORE: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    fn rests() -> Rests {
        Rests { store: STORE, from: date(2026, 7, 1), to: date(2026, 7, 30) }
    }

    fn answers() -> Answers {
        let answers = Answers::new(Arc::default(), None);
        answers.feed_began(1, Instant::now());
        answers
    }

    /// The next notification tells of a shop.
    fn told(answers: &Answers, store: Uuid, days: Option<&[Date]>) {
        let at = answers.read(Ledger::now).expect("a feed").at;
        answers.advance(at + 1);
        answers.void(store, days);
    }

    async fn get(answers: &Answers, text: &str, fresh: bool) -> (String, Source) {
        let load = || async { Ok::<_, Infallible>(text.as_bytes().to_vec()) };
        let answer = answers.get("k".to_owned(), rests(), fresh, load).await.expect("an answer");
        (String::from_utf8(answer.body.to_vec()).expect("text"), answer.source)
    }

    #[tokio::test]
    async fn an_answer_is_kept_only_if_nothing_changed_since_its_read_began() {
        let answers = answers();
        // The read takes its snapshot; the sale commits and is announced; only then is the answer stored.
        let load = || async {
            told(&answers, STORE, Some(&[date(2026, 7, 15)]));
            Ok::<_, Infallible>(b"old".to_vec())
        };
        answers.get("k".to_owned(), rests(), false, load).await.expect("an answer");
        assert_eq!(get(&answers, "new", false).await, ("new".into(), Source::Miss));
        assert_eq!(get(&answers, "newer", false).await, ("new".into(), Source::Hit));
    }

    #[tokio::test]
    async fn changes_elsewhere_leave_it_and_its_own_void_it() {
        let answers = answers();
        get(&answers, "1", false).await;
        told(&answers, OTHER, None);
        told(&answers, STORE, Some(&[date(2026, 6, 30), date(2026, 7, 31)]));
        assert_eq!(get(&answers, "2", false).await, ("1".into(), Source::Hit));
        for (number, days) in [Some(vec![date(2026, 7, 30)]), Some(vec![date(2026, 7, 1)]), None].iter().enumerate() {
            told(&answers, STORE, days.as_deref());
            let text = format!("new {number}");
            assert_eq!(get(&answers, &text, false).await, (text, Source::Miss));
        }
        let at = answers.read(Ledger::now).expect("a feed").at;
        answers.advance(at + 2);
        assert_eq!(get(&answers, "last", false).await, ("last".into(), Source::Miss));
    }

    #[tokio::test]
    async fn without_a_feed_nothing_is_kept_or_given() {
        let answers = answers();
        get(&answers, "1", false).await;
        answers.feed_ended();
        assert_eq!(get(&answers, "2", false).await, ("2".into(), Source::Bypass));
        answers.feed_began(1, Instant::now());
        assert_eq!(
            get(&answers, "3", false).await,
            ("3".into(), Source::Miss),
            "neither from before the gap nor from within"
        );
        // A read that began without a feed is not kept, although there is one at its end.
        answers.feed_ended();
        let load = || async {
            answers.feed_began(1, Instant::now());
            Ok::<_, Infallible>(b"within".to_vec())
        };
        answers.get("k".to_owned(), rests(), false, load).await.expect("an answer");
        assert_eq!(get(&answers, "4", false).await, ("4".into(), Source::Miss));
        // A read that began before a gap and ended after it is not kept either.
        let load = || async {
            answers.feed_ended();
            answers.feed_began(1, Instant::now());
            Ok::<_, Infallible>(b"across".to_vec())
        };
        told(&answers, STORE, None);
        answers.get("k".to_owned(), rests(), false, load).await.expect("an answer");
        assert_eq!(get(&answers, "5", false).await, ("5".into(), Source::Miss));
    }

    #[tokio::test]
    async fn no_cache_reads_through_and_renews() {
        let answers = answers();
        get(&answers, "1", false).await;
        assert_eq!(get(&answers, "2", true).await, ("2".into(), Source::Bypass));
        assert_eq!(get(&answers, "3", false).await, ("2".into(), Source::Hit));
    }

    #[tokio::test]
    async fn many_at_once_read_once() {
        let (answers, reads) = (answers(), AtomicU32::new(0));
        let one = || {
            let load = || async {
                reads.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok::<_, Infallible>(b"x".to_vec())
            };
            answers.get("k".to_owned(), rests(), false, load)
        };
        futures_util::future::join_all((0..50).map(|_| one())).await;
        assert_eq!(reads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn more_days_than_are_remembered_count_as_all() {
        let answers = answers();
        get(&answers, "1", false).await;
        let days: Vec<Date> =
            (0..=MAX_DAYS).map(|n| date(1990, 1, 1).saturating_add(i64::try_from(n).expect("small").days())).collect();
        told(&answers, STORE, Some(&days));
        assert_eq!(get(&answers, "2", false).await, ("2".into(), Source::Miss));
    }
}
