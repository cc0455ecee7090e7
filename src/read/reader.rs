//! Where a read goes: to a standby that is known to have what it needs, else to the primary.

use super::pool::{Parameters, Pool, Session};
use super::standby::Standby;
use super::{ReadError, Sql};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::OnceCell;
use tokio_postgres::Row;

/// A position in the primary's log up to which all that was read holds every acknowledged commit; `None` before any read.
#[derive(Debug, Clone)]
pub struct Held(Arc<AtomicU64>);

impl Default for Held {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }
}

impl Held {
    pub fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|held| *held != u64::MAX)
    }

    /// Another part of the answer holds no more than this.
    pub fn at_most(&self, position: u64) {
        self.0.fetch_min(position, Ordering::Relaxed);
    }
}

/// A standby to be read, and the position in the primary's log that it must have replayed.
pub struct Detour {
    pub standby: Arc<Standby>,
    pub need: u64,
}

/// A session that only reads, until it is dropped.
pub struct Reader {
    primary: Pool,
    /// Made when it is first needed.
    session: OnceCell<Session>,
    detour: Option<Detour>,
    /// Where to note what was read holds, and what a read of the primary does.
    held: Option<(Held, u64)>,
}

impl Reader {
    /// On the primary.
    pub(super) fn of(primary: Pool, session: Session) -> Self {
        Self { primary, session: OnceCell::new_with(Some(session)), detour: None, held: None }
    }

    /// On a standby as long as that gives what is needed, then on the primary.
    pub fn by(detour: Detour, primary: Pool) -> Self {
        Self { primary, session: OnceCell::new(), detour: Some(detour), held: None }
    }

    /// Notes in `held` what is read; what the primary gives holds all up to `primary`.
    pub fn noting(self, held: Held, primary: u64) -> Self {
        Self { held: Some((held, primary)), ..self }
    }

    /// All rows of a statement.
    pub async fn query(&self, sql: Sql, parameters: Parameters<'_>) -> Result<Vec<Row>, ReadError> {
        // On the heap once there is a statement: in place it made the future of every request 19 KB, also of one that needs none.
        Box::pin(self.run(sql, parameters)).await
    }

    async fn run(&self, sql: Sql, parameters: Parameters<'_>) -> Result<Vec<Row>, ReadError> {
        // A standby that failed once is not asked again: whoever needs two statements need not wait for it twice.
        if let Some(Detour { standby, need }) = &self.detour
            && !self.session.initialized()
            && let Some((rows, replayed)) = standby.query(*need, sql, parameters).await
        {
            if let Some((held, _)) = &self.held {
                held.at_most(replayed);
            }
            return Ok(rows);
        }
        let session = self.session.get_or_try_init(|| self.primary.session()).await?;
        let rows = session.query(sql, parameters).await?;
        if let Some((held, primary)) = &self.held {
            held.at_most(*primary);
        }
        Ok(rows)
    }

    /// The first row, if there is one.
    pub async fn query_opt(&self, sql: Sql, parameters: Parameters<'_>) -> Result<Option<Row>, ReadError> {
        Ok(self.query(sql, parameters).await?.into_iter().next())
    }

    /// The one row of a statement that always gives one.
    pub async fn query_one(&self, sql: Sql, parameters: Parameters<'_>) -> Result<Row, ReadError> {
        self.query_opt(sql, parameters).await?.ok_or_else(|| ReadError::Failed("a statement gave no row".to_owned()))
    }
}
