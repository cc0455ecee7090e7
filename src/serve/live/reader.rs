//! One stream: what of the news is for it.

use super::{LIFETIME, News, Subscription};
use crate::serve::access::Scope;
use crate::serve::feed::Change;
use serde::Serialize;
use std::collections::{BTreeSet, VecDeque};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Which figures rest on which rollups. Those of stock are not here: goods that come in change no rollup.
const KPIS: [(&str, &[&str]); 12] = [
    ("abc", &["analytics.product_sales_daily_totals"]),
    ("affinity", &["analytics.product_sales_tickets"]),
    ("breakdown", &["analytics.sales_daily_totals", "analytics.sales_hourly"]),
    // Where the sales had no cashier when the rollups were made, it is the day's that tells of them.
    ("cashiers", &["analytics.cashier_sales_daily", "analytics.sales_daily_totals"]),
    ("categories", &["analytics.product_sales_daily_totals"]),
    ("chain", &["analytics.sales_daily_totals"]),
    ("customers", &["analytics.customer_sales_daily", "analytics.sales_daily_totals"]),
    (
        "dashboard",
        &[
            "analytics.customer_sales_daily",
            "analytics.payment_mix_daily",
            "analytics.sales_daily_totals",
            "analytics.sales_hourly",
        ],
    ),
    ("heatmap", &["analytics.sales_hourly"]),
    ("payments", &["analytics.payment_mix_daily", "analytics.sales_daily_totals"]),
    ("products", &["analytics.product_sales_daily_totals", "analytics.product_sales_tickets"]),
    ("sales", &["analytics.customer_sales_daily", "analytics.sales_daily_totals", "analytics.sales_hourly"]),
];

/// What a stream is about.
#[derive(Debug, Clone)]
pub struct Interest {
    pub stores: Scope,
    /// `None`: all, and rollups on which no figure rests.
    pub kpis: Option<BTreeSet<&'static str>>,
}

impl Interest {
    /// A name of `kpis`, as the table has it.
    pub fn kpi(name: &str) -> Result<&'static str, String> {
        let names = || KPIS.map(|(name, _)| name).join(", ");
        KPIS.iter().find(|(kpi, _)| *kpi == name).map(|(kpi, _)| *kpi).ok_or_else(|| format!("must be of {}", names()))
    }

    /// The change as this stream sees it; `None` where it is none of its business.
    fn see(&self, change: &Change) -> Option<Told> {
        if !change.store.is_none_or(|store| self.stores.holds(store)) {
            return None;
        }
        let rests = KPIS.iter().filter(|(_, rollups)| rollups.contains(&change.rollup.as_str())).map(|(kpi, _)| *kpi);
        let kpis: Vec<_> = rests.filter(|kpi| self.kpis.as_ref().is_none_or(|wanted| wanted.contains(kpi))).collect();
        if self.kpis.is_some() && kpis.is_empty() {
            return None;
        }
        let dates = change.days.as_ref().map(|days| days.iter().map(ToString::to_string).collect());
        Some(Told::Change(None, Changed { rollup: change.rollup.clone(), store_id: change.store, dates, kpis }))
    }
}

/// A change as it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    pub rollup: String,
    /// `None`: any.
    pub store_id: Option<Uuid>,
    /// Business dates; `None`: any.
    pub dates: Option<Vec<String>>,
    /// The figures that rest on it.
    pub kpis: Vec<&'static str>,
}

/// What a stream is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// With the notification's number where it is the last of that: a client that got only some of them asks for all of
    /// them again.
    Change(Option<u64>, Changed),
    Reset,
}

pub struct Reader {
    waiting: VecDeque<Told>,
    missed: VecDeque<News>,
    subscription: Subscription,
    pub interest: Interest,
    stop: CancellationToken,
    end: Instant,
    over: bool,
}

impl Reader {
    pub fn new(subscription: Subscription, interest: Interest, stop: CancellationToken) -> Self {
        Self {
            waiting: VecDeque::new(),
            missed: subscription.missed.clone().into(),
            subscription,
            interest,
            stop,
            end: Instant::now() + LIFETIME,
            over: false,
        }
    }

    /// What comes next; `None` at the stream's end. Nothing is lost where the call is dropped.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some(told) = self.waiting.pop_front() {
                return Some(told);
            }
            if self.over {
                return None;
            }
            let news = match self.missed.pop_front() {
                Some(news) => news,
                None => tokio::select! {
                    news = self.subscription.news.recv() => match news {
                        Ok(news) => news,
                        // Too slow: told so, and let go.
                        Err(RecvError::Lagged(_)) => {
                            self.over = true;
                            News::Reset
                        }
                        Err(RecvError::Closed) => return None,
                    },
                    () = self.stop.cancelled() => return None,
                    () = tokio::time::sleep_until(self.end) => return None,
                },
            };
            match news {
                News::Reset => self.waiting.push_back(Told::Reset),
                News::Changes(seq, changes) => {
                    self.waiting.extend(changes.iter().filter_map(|change| self.interest.see(change)));
                    if let Some(Told::Change(id, _)) = self.waiting.back_mut() {
                        *id = Some(seq);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(rollup: &str, store: Option<Uuid>) -> Change {
        Change { rollup: rollup.to_owned(), store, days: None }
    }

    #[test]
    fn a_stream_sees_its_shops_and_figures_only() {
        let (mine, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let stores = Scope::Only(BTreeSet::from([mine]));
        let of = |kpis: Option<&[&'static str]>, change: &Change| {
            let kpis = kpis.map(|kpis| kpis.iter().copied().collect());
            match (Interest { stores: stores.clone(), kpis }).see(change) {
                Some(Told::Change(None, changed)) => Some(changed.kpis.join(" ")),
                _ => None,
            }
        };
        let hourly = change("analytics.sales_hourly", Some(mine));
        assert_eq!(of(None, &hourly).as_deref(), Some("breakdown dashboard heatmap sales"));
        assert_eq!(of(Some(&["heatmap", "abc"]), &hourly).as_deref(), Some("heatmap"));
        assert_eq!(of(Some(&["abc"]), &hourly), None);
        assert_eq!(of(None, &change("analytics.sales_hourly", Some(other))), None);
        assert_eq!(of(None, &change("mine.orders_daily", Some(mine))).as_deref(), Some(""));
        assert_eq!(of(Some(&["abc"]), &change("mine.orders_daily", Some(mine))), None);
        assert_eq!(of(Some(&["abc"]), &change("analytics.product_sales_daily_totals", None)).as_deref(), Some("abc"));
        assert_eq!(of(None, &change("analytics.cashier_sales_daily", Some(mine))).as_deref(), Some("cashiers"));
    }

    /// A name that nobody makes would never be heard of, and of a rollup without a figure nobody would be told.
    #[test]
    fn figures_rest_on_the_rollups_that_are_made() {
        let made: BTreeSet<&str> = [
            include_str!("../../../migrations/rollups/V1__create_sales_rollups.sql"),
            include_str!("../../../migrations/rollups/V2__create_product_rollups.sql"),
            include_str!("../../../migrations/rollups/V3__create_cashier_rollup.sql"),
        ]
        .iter()
        .flat_map(|text| text.split("pulso.create_rollup('").skip(1))
        .filter_map(|rest| rest.split('\'').next())
        .collect();
        assert_eq!(KPIS.iter().flat_map(|(_, rollups)| *rollups).copied().collect::<BTreeSet<_>>(), made);
    }

    #[test]
    fn figures_are_known_by_name() {
        assert_eq!(Interest::kpi("dashboard"), Ok("dashboard"));
        assert!(Interest::kpi("inventory").is_err_and(|detail| detail.contains("heatmap")));
        assert!(KPIS.is_sorted_by_key(|(name, _)| *name));
    }
}
