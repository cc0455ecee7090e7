//! What keys are used for. A request costs two additions in memory; every ten seconds they are added up in
//! `pulso.api_key_use`. A service that is killed loses what it had not written: statistics, not accounts.

use super::Access;
use crate::db;
use crate::error::{Error, Result};
use axum::http::StatusCode;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(10);
/// How long the database may take, before it is left for the next time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Of one key, since it was last written down.
#[derive(Debug, Default)]
pub struct Tally {
    requests: AtomicI64,
    refused: AtomicI64,
    failed: AtomicI64,
}

impl Tally {
    pub fn asked(&self, requests: u32) {
        self.requests.fetch_add(requests.into(), Ordering::Relaxed);
    }

    pub fn answered(&self, status: StatusCode) {
        if status.is_client_error() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        } else if status.is_server_error() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counts(&self) -> [&AtomicI64; 3] {
        [&self.requests, &self.refused, &self.failed]
    }
}

/// The tallies by the names of their keys.
#[derive(Debug, Default)]
pub struct Tallies(Mutex<HashMap<String, Arc<Tally>>>);

impl Tallies {
    pub fn of(&self, name: &str) -> Arc<Tally> {
        Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default())
    }

    /// Takes what was counted. A key that nobody has asked with for a while is forgotten.
    fn take(&self) -> Vec<(String, [i64; 3])> {
        let mut taken = Vec::new();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, tally| {
            let counts = tally.counts().map(|count| count.swap(0, Ordering::Relaxed));
            if counts != [0; 3] {
                taken.push((name.clone(), counts));
            }
            // Held by a believed key or a request under way.
            counts != [0; 3] || Arc::strong_count(tally) > 1
        });
        taken
    }

    fn put_back(&self, taken: &[(String, [i64; 3])]) {
        for (name, counts) in taken {
            for (count, number) in self.of(name).counts().into_iter().zip(counts) {
                count.fetch_add(*number, Ordering::Relaxed);
            }
        }
    }
}

impl Access {
    /// Writes down what keys were used for since the last time; what could not be written is kept for the next.
    pub async fn write_down(&self, url: &str) -> Result<()> {
        let taken = self.tallies.take();
        if taken.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = taken.iter().map(|(name, _)| name.as_str()).collect();
        let [requests, refused, failed] =
            [0, 1, 2].map(|n| taken.iter().map(|(_, counts)| counts[n]).collect::<Vec<_>>());
        let write = async {
            let client = db::connect(url).await?;
            client.batch_execute("set application_name = 'pulso keys'").await?;
            client
                .execute(include_str!("../../../sql/key/add_use.sql"), &[&names, &requests, &refused, &failed])
                .await?;
            Ok(())
        };
        let outcome = tokio::time::timeout(PATIENCE, write).await;
        let outcome = outcome.unwrap_or_else(|_| Err(Error::unavailable("the server does not answer")));
        if outcome.is_err() {
            self.tallies.put_back(&taken);
        }
        outcome
    }

    /// Writes down what keys are used for, until `stop`.
    pub async fn keep_count(self: Arc<Self>, url: String, stop: CancellationToken) {
        let mut said = String::new();
        while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            match self.write_down(&url).await {
                Ok(()) => said.clear(),
                Err(error) if said != error.to_string() => {
                    tracing::warn!(%error, "what keys are used for cannot be written down; trying again");
                    said = error.to_string();
                }
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_taken_once_and_can_be_put_back() {
        let tallies = Tallies::default();
        let held = tallies.of("a");
        held.asked(3);
        held.answered(StatusCode::OK);
        held.answered(StatusCode::NOT_FOUND);
        held.answered(StatusCode::SERVICE_UNAVAILABLE);
        let taken = tallies.take();
        assert_eq!(taken, [("a".to_owned(), [3, 1, 1])]);
        assert!(tallies.take().is_empty());
        held.asked(1);
        tallies.put_back(&taken);
        assert_eq!(tallies.take(), [("a".to_owned(), [4, 1, 1])]);
        // While somebody holds it, it stays the one that is counted in.
        held.asked(1);
        assert_eq!(tallies.take().len(), 1);
        drop(held);
        assert!(tallies.take().is_empty());
        assert!(tallies.0.lock().expect("a lock").is_empty(), "a key that nobody uses is forgotten");
    }
}
