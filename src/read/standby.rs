//! A standby that is read only where it has what the read needs.
//!
//! What a read needs is one position in the primary's log, which the standby must have replayed before the read's snapshot
//! is taken. Nothing is believed about that: the standby is asked for its position by the same session, in the same round
//! trip, before the read. Whatever else goes wrong is no fault of the caller's, so any failure sends the read elsewhere.

use super::pool::{Parameters, Pool, Session};
use super::{Sql, sql};
use deadpool_postgres::PoolError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};
use tokio_postgres::Row;
use tokio_postgres::types::PgLsn;

const POSITION: Sql = sql!("standby_position");
/// A standby that does not say where it is for so long is as good as gone.
const ANSWERS: Duration = Duration::from_secs(1);
/// A statement gets 5 s in the database; one that has not ended by then never will.
const LONGEST: Duration = Duration::from_secs(6);
/// A standby a moment behind is waited for: a change is announced to many at once, and most ask again at once.
const MOMENT: Duration = Duration::from_millis(25);
const STEP: Duration = Duration::from_millis(2);

/// Why a read went to the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It cannot be reached, or does not answer.
    Away,
    /// It has not replayed what the read needs.
    Behind,
    /// It is no standby any more.
    Promoted,
    /// It follows another server.
    Elsewhere,
    /// It answered with an error, such as a read that was in the way of what it had to replay.
    Failed,
    /// Where the primary is has not been heard of late.
    Unproven,
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Behind => "behind",
            Self::Promoted => "promoted",
            Self::Elsewhere => "elsewhere",
            Self::Failed => "failed",
            Self::Unproven => "unproven",
        }
    }
}

pub struct Standby {
    pool: Pool,
    /// Told of each read that has to go elsewhere.
    told: Box<dyn Fn(Cause) + Send + Sync>,
    /// The furthest position that it is known to have replayed.
    replayed: AtomicU64,
    /// A position that it did not reach while it was waited for. Until it has, it is not waited for again.
    missed: AtomicU64,
}

/// Why there are no rows.
struct Fault {
    cause: Cause,
    /// Something may still come over the connection, some day.
    hangs: bool,
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        tracing::debug!(%error, "a read of a standby failed");
        let cause = if error.as_db_error().is_some() { Cause::Failed } else { Cause::Away };
        Self { cause, hangs: false }
    }
}

impl From<PoolError> for Fault {
    fn from(error: PoolError) -> Self {
        tracing::debug!(%error, "no connection to a standby");
        Self { cause: Cause::Away, hangs: false }
    }
}

const HANGS: Fault = Fault { cause: Cause::Away, hangs: true };

impl Standby {
    /// Tells `told` of each read that has to go elsewhere.
    pub fn new(pool: Pool, told: impl Fn(Cause) + Send + Sync + 'static) -> Self {
        Self { pool, told: Box::new(told), replayed: AtomicU64::new(0), missed: AtomicU64::new(0) }
    }

    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// It was seen to have replayed so much, and no more.
    pub fn seen(&self, replayed: u64) {
        self.replayed.store(replayed, Ordering::Relaxed);
        if replayed >= self.missed.load(Ordering::Relaxed) {
            self.missed.store(0, Ordering::Relaxed);
        }
    }

    /// Whether it is worth asking for what needs a position: it was not found to be behind it a moment ago.
    pub fn may_have(&self, need: u64) -> bool {
        let missed = self.missed.load(Ordering::Relaxed);
        missed == 0 || need < missed || self.replayed.load(Ordering::Relaxed) >= need
    }

    /// The rows, and the position that they hold all of, at least `need`; `None` where the primary has to be asked.
    pub(super) async fn query(&self, need: u64, sql: Sql, parameters: Parameters<'_>) -> Option<(Vec<Row>, u64)> {
        self.read(need, sql, parameters).await.map_err(|cause| (self.told)(cause)).ok()
    }

    async fn read(&self, need: u64, sql: Sql, parameters: Parameters<'_>) -> Result<(Vec<Row>, u64), Cause> {
        let session = match timeout(ANSWERS, self.pool.session()).await {
            Ok(Ok(session)) => session,
            Ok(Err(error)) => return Err(Fault::from(error).cause),
            Err(_) => return Err(Cause::Away),
        };
        let began = Instant::now();
        let outcome = timeout(LONGEST, self.read_on(&session, need, sql, parameters)).await.unwrap_or(Err(HANGS));
        match &outcome {
            Ok(_) => session.ran(sql, parameters, began, false).await,
            Err(Fault { cause: Cause::Failed, .. }) => session.ran(sql, parameters, began, true).await,
            Err(Fault { hangs: true, .. }) => session.discard(),
            Err(_) => {}
        }
        outcome.map_err(|fault| fault.cause)
    }

    async fn read_on(
        &self,
        session: &Session,
        need: u64,
        sql: Sql,
        parameters: Parameters<'_>,
    ) -> Result<(Vec<Row>, u64), Fault> {
        let prepared = async {
            let position = session.ready(POSITION).await?;
            if self.replayed.load(Ordering::Relaxed) < need {
                self.reach(session, need).await?;
            }
            Ok::<_, Fault>((position, session.ready(sql).await?))
        };
        let (position, ready) = timeout(ANSWERS, prepared).await.unwrap_or(Err(HANGS))?;
        let before = async {
            let rows = timeout(ANSWERS, session.send(&position, &[])).await.map_err(|_| HANGS)??;
            self.judge(&rows, need)
        };
        let read = async { Ok(session.send(&ready, parameters).await?) };
        // The position first: what it has replayed by then is in the read's snapshot, which comes after.
        let (replayed, rows) = session.alone(async { futures_util::try_join!(before, read) }).await?;
        Ok((rows, replayed))
    }

    /// Waits a moment for it to replay so much.
    async fn reach(&self, session: &Session, need: u64) -> Result<(), Fault> {
        let position = session.ready(POSITION).await?;
        let until = Instant::now() + MOMENT;
        loop {
            let behind = match self.judge(&session.alone(session.send(&position, &[])).await?, need) {
                Ok(_) => return Ok(()),
                Err(fault) => fault,
            };
            if behind.cause != Cause::Behind || Instant::now() >= until {
                if behind.cause == Cause::Behind {
                    self.missed.store(need, Ordering::Relaxed);
                }
                return Err(behind);
            }
            sleep(STEP).await;
        }
    }

    fn judge(&self, rows: &[Row], need: u64) -> Result<u64, Fault> {
        let Some(row) = rows.first() else { return Err(Fault { cause: Cause::Failed, hangs: false }) };
        if !row.try_get::<_, bool>("standby")? {
            return Err(Fault { cause: Cause::Promoted, hangs: false });
        }
        let replayed = u64::from(row.try_get::<_, PgLsn>("replayed")?);
        self.replayed.fetch_max(replayed, Ordering::Relaxed);
        if replayed >= need { Ok(replayed) } else { Err(Fault { cause: Cause::Behind, hangs: false }) }
    }
}
