//! Sessions that are told what to do, one step at a time, and may wait for each other's locks.

use crate::common::Db;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::Client;

type Outcome = Result<(), tokio_postgres::Error>;

/// A session that runs its steps one after the other, each as soon as it is told.
pub struct Session {
    orders: mpsc::UnboundedSender<(String, oneshot::Sender<Outcome>)>,
    pid: i32,
    /// Steps told and not known to be done.
    waiting: VecDeque<(String, oneshot::Receiver<Outcome>)>,
    /// SQLSTATEs with which a transaction may end.
    expected: &'static [&'static str],
    pub failures: usize,
}

impl Session {
    pub async fn new(db: &Db, expected: &'static [&'static str]) -> Self {
        let client = db.connect().await;
        client.batch_execute("set deadlock_timeout = '5ms'").await.unwrap();
        let pid = client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
        let (orders, mut inbox) = mpsc::unbounded_channel::<(String, oneshot::Sender<Outcome>)>();
        tokio::spawn(async move {
            let (mut is_open, mut failed) = (false, false);
            while let Some((sql, outcome)) = inbox.recv().await {
                let ends = ["commit", "rollback", "prepare transaction"].iter().any(|word| sql.starts_with(word))
                    && !sql.starts_with("rollback to");
                is_open |= sql.starts_with("begin");
                // What follows in a transaction that has failed is not run.
                let result = if failed { Ok(()) } else { run(&client, &sql).await };
                if result.is_err() {
                    failed = is_open;
                    let _ = client.batch_execute("rollback").await;
                }
                if ends {
                    (is_open, failed) = (false, false);
                }
                let _ = outcome.send(result);
            }
        });
        Self { orders, pid, waiting: VecDeque::new(), expected, failures: 0 }
    }

    pub fn tell(&mut self, sql: String) {
        let (sender, receiver) = oneshot::channel();
        self.orders.send((sql.clone(), sender)).unwrap();
        self.waiting.push_back((sql, receiver));
    }

    /// Whether it waits for something to end.
    pub fn is_busy(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes note of the steps that are done.
    fn look(&mut self, context: &str) {
        while let Some((sql, receiver)) = self.waiting.front_mut() {
            match receiver.try_recv() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    assert!(self.expected.contains(&code(&error)), "{context}: {sql}: {error:?}");
                    self.failures += 1;
                }
                Err(oneshot::error::TryRecvError::Empty) => return,
                Err(error) => panic!("{context}: {sql}: {error}"),
            }
            self.waiting.pop_front();
        }
    }
}

/// Runs statements, or a COPY FROM STDIN whose data follow in the next lines. Those come from a program instead: where COPY fails
/// before it asks for data, as in a deadlock, tokio-postgres sends a Sync too many and the connection ends.
async fn run(client: &Client, sql: &str) -> Outcome {
    let Some((copy, data)) = sql.split_once('\n').filter(|(first, _)| first.starts_with("copy ")) else {
        return client.batch_execute(sql).await;
    };
    client.batch_execute(&copy.replace("stdin", &format!("program $copy$printf '%s' '{data}'$copy$"))).await
}

/// Waits until each session has done what it was told or waits for a lock.
pub async fn settle(watcher: &Client, sessions: &mut [Session], context: &str) {
    for round in 0..5_000u32 {
        let mut busy = Vec::new();
        for session in sessions.iter_mut() {
            session.look(context);
            if session.is_busy() {
                busy.push(session.pid);
            }
        }
        if busy.is_empty() {
            return;
        }
        // Most steps end at once; what does not is asked after.
        if round >= 2 {
            let waiting: i64 = watcher
                .query_one(
                    "select count(*) from pg_stat_activity
                      where pid = any ($1) and wait_event_type = 'Lock' and cardinality(pg_blocking_pids(pid)) > 0",
                    &[&busy],
                )
                .await
                .unwrap()
                .get(0);
            if waiting == busy.len() as i64 {
                // Still so, and not about to be found in a deadlock.
                tokio::time::sleep(Duration::from_millis(8)).await;
                sessions.iter_mut().for_each(|session| session.look(context));
                if sessions.iter().filter(|session| session.is_busy()).count() == busy.len() {
                    return;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{context}: a step neither ends nor waits");
}

/// Waits until each session has done what it was told.
pub async fn end(sessions: &mut [Session], context: &str) {
    for _ in 0..10_000 {
        sessions.iter_mut().for_each(|session| session.look(context));
        if !sessions.iter().any(Session::is_busy) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{context}: a step waits for ever");
}

/// Commits or rolls back a prepared transaction, if there is one by that name.
pub async fn finish_prepared(watcher: &Client, name: &str, how: &str) {
    if let Err(error) = watcher.batch_execute(&format!("{how} prepared '{name}'")).await {
        assert_eq!(code(&error), "42704", "{error:?}");
    }
}

/// Runs a statement until its table is free, as the terminal does.
pub async fn patiently(client: &Client, sql: &str) {
    for _ in 0..400 {
        match client.batch_execute(sql).await {
            Ok(()) => return,
            Err(error) => assert_eq!(code(&error), "55P03", "{sql}: {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never free: {sql}");
}

/// The SQLSTATE of an error of the server; empty where the error is another.
pub fn code(error: &tokio_postgres::Error) -> &str {
    error.code().map_or("", |code| code.code())
}
