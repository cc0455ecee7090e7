//! Long calls: seen from a second connection, cancelled on the server by Ctrl-C.

use crate::error::Result;
use indicatif::{ProgressBar, ProgressStyle};
use std::future::Future;
use std::time::Duration;
use tokio_postgres::{CancelToken, Client, NoTls};
use tokio_util::sync::CancellationToken;

/// How often the progress is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// An eye on the connection that works.
pub struct Watch {
    /// The connection that looks; without it there is no progress to see.
    watcher: Option<Client>,
    pid: i32,
    on_server: CancelToken,
    pub bar: ProgressBar,
    pub cancel: CancellationToken,
}

impl Watch {
    pub async fn new(
        worker: &Client,
        watcher: Option<Client>,
        bar: ProgressBar,
        cancel: CancellationToken,
    ) -> Result<Self> {
        let pid = worker.query_one("select pg_backend_pid()", &[]).await?.try_get(0)?;
        let style = ProgressStyle::with_template("{msg} {bar:30} {percent} % ({elapsed}, {eta} left)");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Ok(Self { watcher, pid, on_server: worker.cancel_token(), bar, cancel })
    }

    /// Waits for `work`, which runs on the watched connection. `look` gives phase, done and total for its process ($1).
    ///
    /// Stopped by a person, it is cancelled on the server and waited for: `work` then ends with `QUERY_CANCELED`, unless
    /// it was done before the wish arrived. The server has undone it when it answers the connection's next statement.
    pub async fn see<T>(&self, work: impl Future<Output = T>, look: Option<&str>) -> T {
        tokio::pin!(work);
        let mut ticks = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                ended = &mut work => return ended,
                () = self.cancel.cancelled() => {
                    // Should it not arrive, the connection is gone, and `work` ends by itself.
                    let _ = self.on_server.cancel_query(NoTls).await;
                    return work.await;
                }
                _ = ticks.tick() => if let Some(look) = look { self.show(look).await },
            }
        }
    }

    /// Draws how far it is. That is a help only: without it the work goes on.
    async fn show(&self, look: &str) {
        let Some(watcher) = &self.watcher else { return };
        let Ok(Some(row)) = watcher.query_opt(look, &[&self.pid]).await else { return };
        if let (Ok(phase), Ok(done), Ok(total)) =
            (row.try_get::<_, String>(0), row.try_get::<_, i64>(1), row.try_get::<_, i64>(2))
        {
            self.bar.set_length(total.unsigned_abs().max(1));
            self.bar.set_position(done.unsigned_abs());
            self.bar.set_message(phase);
        }
    }
}
