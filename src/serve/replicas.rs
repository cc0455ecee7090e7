//! Standbys that figures are read from: which there are, how far each has come, which one is next.
//!
//! What is known here of a standby only saves asking in vain. Whether an answer is good enough is seen at each read
//! (`read::Standby`), against one position: what the feed had announced, the bound on lag and the caller's own token are all
//! positions in the primary's log, and the furthest of them is what a standby must have replayed.

use super::cache::{Answers, MAX_LAG};
use super::metrics::Metrics;
use super::slow;
use crate::db;
use crate::error::{Error, Result};
use crate::pooler::Wish;
use crate::read::{self, Cause, Detour, Standby};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};
use tokio_postgres::types::PgLsn;
use tokio_util::sync::CancellationToken;

/// How often a standby is asked how it does.
const PING: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(5);
/// The primary is looked at every half second: a smaller bound could not be kept.
const MIN_LAG: Duration = Duration::from_secs(1);

/// Which standbys there are, and how they are read.
#[derive(Debug, Clone)]
pub struct Settings {
    pub urls: Vec<String>,
    pub max_lag: Duration,
    /// What is between the reads and each of them.
    pub pooler: Wish,
}

impl Default for Settings {
    fn default() -> Self {
        Self { urls: Vec::new(), max_lag: Duration::from_secs(2), pooler: Wish::Auto }
    }
}

/// Reads a bound on lag: `2s`, `1500ms`.
pub fn lag(text: &str) -> Result<Duration, String> {
    let (digits, unit) = text.split_at(text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len());
    let number = digits.parse::<u64>().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()));
    let lag = match (number, unit) {
        (Some(number), "s") => Some(Duration::from_secs(number)),
        (Some(number), "ms") => Some(Duration::from_millis(number)),
        _ => None,
    };
    lag.filter(|lag| (MIN_LAG..=MAX_LAG).contains(lag))
        .ok_or_else(|| "expected a time from 1s to 60s, such as 2s or 1500ms".to_owned())
}

/// What a standby was when it was asked last.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Away,
    Promoted,
    Follows { history: String },
}

struct Link {
    name: String,
    url: String,
    pool_size: usize,
    pooler: Wish,
    /// Known once it was found out how to reach it.
    standby: OnceLock<Arc<Standby>>,
    state: RwLock<State>,
    metrics: Arc<Metrics>,
    slow: Duration,
    explain: bool,
}

pub struct Replicas {
    links: Vec<Arc<Link>>,
    max_lag: Duration,
    next: AtomicUsize,
    metrics: Arc<Metrics>,
}

impl Replicas {
    /// Connects to nothing yet.
    pub fn new(
        settings: Settings,
        pool_size: usize,
        metrics: Arc<Metrics>,
        slow: Duration,
        explain: bool,
    ) -> Result<Self> {
        let link = |url: String| {
            let link = Link {
                name: name(&url)?,
                url,
                pool_size,
                pooler: settings.pooler,
                standby: OnceLock::new(),
                state: RwLock::new(State::Away),
                metrics: Arc::clone(&metrics),
                slow,
                explain,
            };
            link.metrics.replicas.up(&link.name, false);
            Ok(Arc::new(link))
        };
        let links = settings.urls.into_iter().map(link).collect::<Result<Vec<_>>>()?;
        Ok(Self { links, max_lag: settings.max_lag, next: AtomicUsize::new(0), metrics })
    }

    /// A standby that may have all that a read needs which begins now: what was announced, what is older than the bound on
    /// lag, and what the caller asks for.
    pub fn pick(&self, after: u64, answers: &Answers) -> Option<Detour> {
        if self.links.is_empty() {
            return None;
        }
        let picked = match answers.need(self.max_lag) {
            Some((need, history)) => self.pick_for(need.max(after), &history),
            None => Err(Cause::Unproven),
        };
        picked.map_err(|cause| self.metrics.replicas.fell_back(cause)).ok()
    }

    fn pick_for(&self, need: u64, history: &str) -> Result<Detour, Cause> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut cause = Cause::Away;
        for number in 0..self.links.len() {
            let link = &self.links[(first + number) % self.links.len()];
            cause = match (link.state(), link.standby.get()) {
                (State::Away, _) | (_, None) => Cause::Away,
                (State::Promoted, _) => Cause::Promoted,
                (State::Follows { history: other }, _) if other != history => Cause::Elsewhere,
                (State::Follows { .. }, Some(standby)) if standby.may_have(need) => {
                    return Ok(Detour { standby: Arc::clone(standby), need });
                }
                (State::Follows { .. }, Some(_)) => Cause::Behind,
            };
        }
        Err(cause)
    }

    /// Asks each standby how it does, until `stop`.
    pub fn follow(&self, answers: &Arc<Answers>, stop: &CancellationToken) {
        for link in &self.links {
            let (link, answers, stop) = (Arc::clone(link), Arc::clone(answers), stop.clone());
            tokio::spawn(async move { stop.run_until_cancelled(link.follow(&answers)).await });
        }
    }

    pub fn close(&self) {
        for standby in self.links.iter().filter_map(|link| link.standby.get()) {
            standby.pool().close();
        }
    }
}

impl Link {
    fn state(&self) -> State {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn becomes(&self, state: State) {
        let before = std::mem::replace(&mut *self.state.write().unwrap_or_else(PoisonError::into_inner), state.clone());
        if before == state {
            return;
        }
        let replica = &self.name;
        match state {
            State::Follows { history } => tracing::info!(replica, history, "a standby is read from now on"),
            State::Promoted => tracing::warn!(
                replica,
                "this is no standby, or none any more; it is not read. Take it out of PULSO_READ_URLS, or make it DATABASE_URL"
            ),
            State::Away => tracing::warn!(replica, "a standby is away; the primary is read instead"),
        }
        self.metrics.replicas.up(&self.name, matches!(self.state(), State::Follows { .. }));
    }

    async fn follow(self: Arc<Self>, answers: &Answers) {
        let mut retry = PING;
        // As of when it is known to have lacked nothing.
        let mut level = None;
        loop {
            let began = Instant::now();
            let Err(error) = self.session(answers, &mut level).await else { continue };
            tracing::debug!(replica = self.name, %error, "a standby does not answer");
            self.becomes(State::Away);
            retry = if began.elapsed() > MAX_RETRY { PING } else { (retry * 2).min(MAX_RETRY) };
            sleep(retry).await;
        }
    }

    /// One connection's life; ends by a fault.
    async fn session(self: &Arc<Self>, answers: &Answers, level: &mut Option<Instant>) -> Result<()> {
        let silent = || Error::unavailable("the server does not answer");
        let client = timeout(PATIENCE, db::connect(&self.url)).await.map_err(|_| silent())??;
        if self.standby.get().is_none() {
            let pooling = timeout(PATIENCE * 5, self.pooler.pooling(&self.url)).await.map_err(|_| silent())??;
            let pool = read::pool(&self.url, self.pool_size, pooling)?;
            pool.observe(slow::observer(Arc::clone(&self.metrics), self.name.clone(), self.slow, self.explain));
            let link = Arc::downgrade(self);
            let told = move |cause| {
                if let Some(link) = link.upgrade() {
                    link.failed(cause);
                }
            };
            let _ = self.standby.set(Arc::new(Standby::new(pool, told)));
        }
        loop {
            // By the simple protocol's kin that leaves nothing behind in a pooler's session.
            let question = client.query_typed(include_str!("../../sql/query/standby_state.sql"), &[]);
            let rows = timeout(PATIENCE, question).await.map_err(|_| silent())??;
            let row = rows.first().ok_or_else(silent)?;
            let replayed = u64::from(row.try_get::<_, PgLsn>("replayed")?);
            if let Some(standby) = self.standby.get() {
                standby.seen(replayed);
            }
            *level = answers.level(replayed).max(*level);
            if let Some(level) = *level {
                self.metrics.replicas.lags(&self.name, level.elapsed());
            }
            self.becomes(match row.try_get("standby")? {
                true => State::Follows { history: row.try_get("history")? },
                false => State::Promoted,
            });
            sleep(PING).await;
        }
    }

    /// A read was sent elsewhere. One that is away or promoted is left alone until it was asked how it does.
    fn failed(&self, cause: Cause) {
        self.metrics.replicas.fell_back(cause);
        match cause {
            Cause::Away => self.becomes(State::Away),
            Cause::Promoted => self.becomes(State::Promoted),
            _ => {}
        }
    }
}

/// Where it is, without user, password and database.
pub(crate) fn name(url: &str) -> Result<String> {
    let config = db::config(url).map_err(|error| {
        Error::usage(error.to_string().replace("DATABASE_URL", "PULSO_READ_URLS"))
            .with_hint("Name each standby by a URL of its own, separated by commas; none may hold a comma itself.")
    })?;
    let host = match config.get_hosts().first() {
        Some(tokio_postgres::config::Host::Tcp(name)) => name.clone(),
        #[cfg(unix)]
        Some(tokio_postgres::config::Host::Unix(dir)) => dir.display().to_string(),
        None => return Err(Error::usage("a URL in PULSO_READ_URLS names no host")),
    };
    Ok(format!("{host}:{}", config.get_ports().first().copied().unwrap_or(5432)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_on_lag_is_a_time_that_can_be_kept() {
        assert_eq!(lag("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(lag("1500ms"), Ok(Duration::from_millis(1500)));
        for bad in ["", "2", "s", "999ms", "61s", "-2s", "+2s", "2 s", "2m", "1.5s", "99999999999999999999s"] {
            assert!(lag(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_standby_is_named_without_its_secrets() {
        assert_eq!(name("postgresql://u:hunter2@h:5433/d").as_deref().ok(), Some("h:5433"));
        assert_eq!(name("host=/run/pg user=u dbname=d").as_deref().ok(), Some("/run/pg:5432"));
        for bad in ["postgresql://u:hunter2@h:port/d", "hunter2", "user=u"] {
            let said = name(bad).expect_err("no URL").to_string();
            assert!(said.contains("PULSO_READ_URLS") && !said.contains("hunter2"), "{said}");
        }
    }
}
