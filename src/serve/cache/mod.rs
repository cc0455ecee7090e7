//! Answers kept in memory, and in Redis where nodes share one, for as long as the change feed says that nothing they rest
//! on has changed.
//!
//! Nothing is removed when a change comes: the change is noted in a ledger, and an answer is good only while no change of
//! its shop and days was noted since its read *began*. So whatever order a read, a commit and its announcement come in, an
//! answer that may lack the commit is never given once the commit was announced. Without a feed nothing is kept or given.
//! What Redis holds is no different: each answer bears the number of the feed at which its read began, and a node judges it by
//! its own ledger. Whoever stored it, in whatever order, and however long Redis was away, is of no matter.
//!
//! A standby's answer is no different either: a standby is read only once it has replayed all that had been announced.

mod ledger;
mod positions;

pub use ledger::{Order, Rests, days_of};
pub use positions::{MAX_LAG, Sight};

use super::asked::Asked;
use super::flights::Flights;
use super::manners::tag;
use super::metrics::Metrics;
use super::problem::Problem;
use super::shared::Shared;
use axum::http::{HeaderName, HeaderValue, header};
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
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use uuid::Uuid;

const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// However quiet the feed: no answer is older.
const MAX_AGE: Duration = Duration::from_secs(60);

/// JSON, and the tag that it is compared by: made once, however often it is given.
#[derive(Clone)]
struct Text {
    body: Bytes,
    tag: HeaderValue,
}

impl From<Bytes> for Text {
    fn from(body: Bytes) -> Self {
        Self { tag: tag(&body), body }
    }
}

#[derive(Clone)]
struct Entry {
    began: Began,
    /// The position in the primary's log up to which it holds all that was acknowledged.
    held: u64,
    text: Text,
}

/// What a read gave to all who share it.
#[derive(Clone)]
struct Read {
    text: Text,
    held: u64,
    source: Source,
}

/// An answer, what it rests on and the name that it is kept by.
pub struct Found {
    pub key: String,
    pub rests: Rests,
    pub body: Vec<u8>,
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
    text: Text,
    source: Source,
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
            (header::ETAG, self.text.tag),
        ];
        (headers, self.text.body).into_response()
    }
}

/// As the body of an answer.
pub fn json(value: &impl Serialize) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(value).map_err(|error| Problem::internal(error.to_string()))
}

pub struct Answers {
    ledger: RwLock<Ledger>,
    kept: Cache<String, Entry>,
    /// One read of what is asked for by many at once.
    flights: Flights<Result<Read, Problem>>,
    shared: Option<Arc<Shared>>,
    /// Which life of which database the answers are of: the beginning of their names in Redis.
    life: RwLock<Arc<str>>,
    metrics: Arc<Metrics>,
}

impl Answers {
    pub fn new(metrics: Arc<Metrics>, shared: Option<Arc<Shared>>) -> Self {
        let weight =
            |key: &String, entry: &Entry| u32::try_from(key.len() + entry.text.body.len() + 128).unwrap_or(u32::MAX);
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
            flights: Flights::default(),
            shared,
            life: RwLock::new("".into()),
            metrics,
        }
    }

    /// Which life of which database the feed that begins now is of.
    pub fn lives_in(&self, life: &str) {
        *self.life.write().unwrap_or_else(PoisonError::into_inner) =
            hex(&Sha256::digest(format!("{} {life}", env!("CARGO_PKG_VERSION")))).into();
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

    /// A connection to the primary of this cluster and timeline has begun.
    pub fn primary_is(&self, history: &str) {
        self.write(|ledger| ledger.positions.begin(history));
    }

    /// How many notifications have been heard.
    pub fn heard(&self) -> u64 {
        self.read(Ledger::heard)
    }

    pub fn saw(&self, sight: Sight) {
        self.write(|ledger| ledger.positions.see(sight));
    }

    /// What a standby of this cluster and timeline must have replayed to be read now, when it may lack nothing that was
    /// announced, and nothing that was committed `lag` ago; `None` while that is not known.
    pub fn need(&self, lag: Duration) -> Option<(u64, String)> {
        self.read(|ledger| {
            let need = ledger.positions.need(ledger.heard(), lag, Instant::now())?;
            Some((need, ledger.positions.history().to_owned()))
        })
    }

    /// As of when a standby that has replayed so much lacks nothing.
    pub fn level(&self, replayed: u64) -> Option<Instant> {
        self.read(|ledger| ledger.positions.level(replayed))
    }

    /// The last position that the primary was seen at.
    pub fn written(&self) -> Option<u64> {
        self.read(|ledger| ledger.positions.written())
    }

    /// Up to which position the primary's answer holds all that was acknowledged, if it is asked now.
    pub fn held(&self) -> u64 {
        self.read(|ledger| ledger.positions.held())
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

    /// The answer kept under `key` if it is still good, and no older than the caller asks; else that of `load`, which is kept.
    pub async fn get<F>(
        &self,
        key: String,
        rests: Rests,
        asked: &Asked,
        load: impl FnOnce() -> F,
    ) -> Result<Answer, Problem>
    where
        F: Future<Output = Result<Vec<u8>, Problem>>,
    {
        if !self.keeps(asked) {
            let name = key.clone();
            return self.through(&name, asked, || async { Ok(Found { body: load().await?, key, rests }) }).await;
        }
        if let Some(entry) = self.good(&key, &rests, asked) {
            return Ok(self.hit(entry, asked));
        }
        let name = flight(&key, asked);
        let mut reads = false;
        let read = || async {
            reads = true;
            // Another may have read it while this one waited; a change since then makes it void for both.
            if let Some(Entry { text, held, .. }) = self.good(&key, &rests, asked) {
                self.metrics.cache.hit("memory");
                return Ok(Read { text, held, source: Source::Hit });
            }
            self.metrics.cache.missed("memory");
            if let Some(Entry { text, held, .. }) = self.shared_good(&key, &rests, asked).await {
                return Ok(Read { text, held, source: Source::Shared });
            }
            self.load(Source::Miss, asked, || async { Ok(Found { body: load().await?, key, rests }) }).await
        };
        let Read { text, held, mut source } = self.flights.share(&name, read).await?;
        asked.held.at_most(held);
        if !reads {
            self.metrics.cache.hit("memory");
            source = Source::Hit;
        }
        Ok(Answer { text, source })
    }

    /// Whether the caller may be given a kept answer.
    pub fn keeps(&self, asked: &Asked) -> bool {
        !asked.fresh && self.is_on()
    }

    /// What `load` gives, past what is kept; it is kept itself. Whoever asks the same at once may be given the same.
    pub async fn through<F>(&self, name: &str, asked: &Asked, load: impl FnOnce() -> F) -> Result<Answer, Problem>
    where
        F: Future<Output = Result<Found, Problem>>,
    {
        self.metrics.cache.bypassed.inc();
        let read = || self.load(Source::Bypass, asked, load);
        let Read { text, held, source } = self.flights.share(&flight(name, asked), read).await?;
        asked.held.at_most(held);
        Ok(Answer { text, source })
    }

    fn hit(&self, entry: Entry, asked: &Asked) -> Answer {
        self.metrics.cache.hit("memory");
        asked.held.at_most(entry.held);
        Answer { text: entry.text, source: Source::Hit }
    }

    fn good(&self, key: &str, rests: &Rests, asked: &Asked) -> Option<Entry> {
        self.kept.get(key).filter(|entry| self.is_good(entry, rests, asked))
    }

    fn is_good(&self, entry: &Entry, rests: &Rests, asked: &Asked) -> bool {
        entry.held >= asked.after && self.read(|ledger| ledger.holds(entry.began, rests))
    }

    async fn load<F>(&self, source: Source, asked: &Asked, load: impl FnOnce() -> F) -> Result<Read, Problem>
    where
        F: Future<Output = Result<Found, Problem>>,
    {
        // Before the read: what changes from here on may be missing in it.
        let (began, life) = (self.read(Ledger::now), self.life());
        let Found { key, rests, body } = load().await?;
        let text = Text::from(Bytes::from(body));
        // Of all that this request has read, which may be less, never more.
        let held = asked.held.get().unwrap_or(0);
        if let Some(began) = began
            && self.read(|ledger| ledger.holds(began, &rests))
        {
            if let Some(shared) = &self.shared {
                let value = [&began.at.to_be_bytes(), &held.to_be_bytes(), text.body.as_ref()].concat();
                shared.put(shared_key(&life, &key), value, MAX_AGE);
            }
            self.kept.insert(key, Entry { began, held, text: text.clone() });
        }
        Ok(Read { text, held, source })
    }

    /// An answer that another node has read, if it is good here; from now on it is kept here too.
    async fn shared_good(&self, key: &str, rests: &Rests, asked: &Asked) -> Option<Entry> {
        let shared = self.shared.as_ref()?;
        // Of this connection of the feed: the name was made in its life, whatever begins while Redis answers.
        let era = self.read(Ledger::now)?.era;
        let value = shared.get::<Vec<u8>>(&shared_key(&self.life(), key)).await;
        let entry = value.as_deref().and_then(|value| {
            let (at, rest) = value.split_first_chunk()?;
            let (held, body) = rest.split_first_chunk()?;
            let began = Began { era, at: u64::from_be_bytes(*at) };
            Some(Entry { began, held: u64::from_be_bytes(*held), text: Bytes::copy_from_slice(body).into() })
        });
        let Some(entry) = entry.filter(|entry| self.is_good(entry, rests, asked)) else {
            self.metrics.cache.missed("redis");
            return None;
        };
        self.metrics.cache.hit("redis");
        self.kept.insert(key.to_owned(), entry.clone());
        Some(entry)
    }

    fn life(&self) -> Arc<str> {
        Arc::clone(&self.life.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a read is shared by: those who ask for another freshness have a flight of their own.
fn flight(name: &str, asked: &Asked) -> String {
    format!("{name} {} {}", asked.fresh, asked.after)
}

fn shared_key(life: &str, key: &str) -> String {
    format!("pulso:answer:{life}:{}", hex(&Sha256::digest(key)))
}

/// The first half of a hash: nobody finds two texts with one of 128 bits.
pub fn hex(hash: &[u8]) -> String {
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
        get_as(answers, text, &Asked { fresh, ..Asked::default() }).await
    }

    async fn get_as(answers: &Answers, text: &str, asked: &Asked) -> (String, Source) {
        let load = || async {
            asked.held.at_most(answers.held());
            Ok::<_, Problem>(text.as_bytes().to_vec())
        };
        let answer = answers.get("k".to_owned(), rests(), asked, load).await.expect("an answer");
        (String::from_utf8(answer.text.body.to_vec()).expect("text"), answer.source)
    }

    #[tokio::test]
    async fn an_answer_is_kept_only_if_nothing_changed_since_its_read_began() {
        let answers = answers();
        // The read takes its snapshot; the sale commits and is announced; only then is the answer stored.
        let load = || async {
            told(&answers, STORE, Some(&[date(2026, 7, 15)]));
            Ok::<_, Problem>(b"old".to_vec())
        };
        answers.get("k".to_owned(), rests(), &Asked::default(), load).await.expect("an answer");
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
            Ok::<_, Problem>(b"within".to_vec())
        };
        answers.get("k".to_owned(), rests(), &Asked::default(), load).await.expect("an answer");
        assert_eq!(get(&answers, "4", false).await, ("4".into(), Source::Miss));
        // A read that began before a gap and ended after it is not kept either.
        let load = || async {
            answers.feed_ended();
            answers.feed_began(1, Instant::now());
            Ok::<_, Problem>(b"across".to_vec())
        };
        told(&answers, STORE, None);
        answers.get("k".to_owned(), rests(), &Asked::default(), load).await.expect("an answer");
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
    async fn an_answer_older_than_the_caller_asks_is_a_miss() {
        let answers = answers();
        let saw = |flushed| answers.saw(Sight { asked: Instant::now(), heard: 1, written: flushed + 8, flushed });
        let after = |after| Asked { after, ..Asked::default() };
        assert_eq!(get_as(&answers, "0", &after(0)).await, ("0".into(), Source::Miss), "nothing is known of it");
        assert_eq!(get_as(&answers, "1", &after(1)).await, ("1".into(), Source::Miss));
        saw(100);
        assert_eq!(get_as(&answers, "2", &after(50)).await, ("2".into(), Source::Miss));
        let asked = after(99);
        assert_eq!(get_as(&answers, "3", &asked).await, ("2".into(), Source::Hit));
        assert_eq!(asked.held.get(), Some(99));
        // A commit at 100 may have been on the disk, and not yet visible, when the primary was looked at.
        assert_eq!(get_as(&answers, "4", &after(100)).await, ("4".into(), Source::Miss));
        assert_eq!(get_as(&answers, "5", &after(100)).await, ("5".into(), Source::Miss));
        saw(101);
        assert_eq!(get_as(&answers, "6", &after(100)).await, ("6".into(), Source::Miss));
        assert_eq!(get_as(&answers, "7", &after(100)).await, ("6".into(), Source::Hit));
    }

    #[tokio::test]
    async fn many_at_once_read_once() {
        let (answers, reads, asked) = (answers(), AtomicU32::new(0), Asked::default());
        let one = || {
            let load = || async {
                reads.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok::<_, Problem>(b"x".to_vec())
            };
            answers.get("k".to_owned(), rests(), &asked, load)
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
