//! What the shop's own sessions wait for locks, looked at all the while.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

/// Each wait: whose, in which statement, since when (not noted yet in its first moment); milliseconds of the wait and of its statement.
const WAITING: &str = "
  select a.pid, a.query_start::text, coalesce(l.waitstart::text, ''), coalesce((extract(epoch from clock_timestamp() - l.waitstart) * 1000)::bigint, 0),
         (extract(epoch from clock_timestamp() - a.query_start) * 1000)::bigint, left(a.query, 80)
    from pg_stat_activity a left join pg_locks l on l.pid = a.pid and not l.granted
   where a.datname = current_database()
     and a.wait_event_type = 'Lock'
     and a.backend_type = 'client backend'
     and a.application_name not like 'pulso migrate%'
     and a.pid <> pg_backend_pid()";

pub struct Waits {
    over: Arc<AtomicBool>,
    task: JoinHandle<Seen>,
}

#[derive(Default)]
pub struct Seen {
    /// Milliseconds that one statement has waited in all, and the statement.
    pub waited: (i64, String),
    /// The oldest statement that was seen waiting: its age in milliseconds, its own work included.
    pub waiting: (i64, String),
    pub samples: u32,
}

impl Waits {
    pub fn watch(client: Client) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let task = tokio::spawn(async move {
            let mut seen = Seen::default();
            let mut statements: HashMap<(i32, String), HashMap<String, i64>> = HashMap::new();
            while !until.load(Ordering::Relaxed) {
                for row in client.query(WAITING, &[]).await.unwrap() {
                    let waits = statements.entry((row.get(0), row.get(1))).or_default();
                    waits.insert(row.get(2), row.get(3));
                    seen.waited = seen.waited.max((waits.values().sum(), row.get(5)));
                    seen.waiting = seen.waiting.max((row.get(4), row.get(5)));
                }
                seen.samples += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            seen
        });
        Self { over, task }
    }

    pub async fn end(self) -> Seen {
        self.over.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}
