//! The reads of the contract: one SQL file in `sql/query`, one prepared statement and one function each.
//! The HTTP routes and the terminal dashboard both use them, so they cannot tell different numbers.

mod dashboard;
mod decimal;
mod error;
mod pool;
mod products;
mod sales;
mod stores;

pub use dashboard::{Change, Comparison, Dashboard, HourSales, Tender, dashboard};
pub use decimal::{Money, Number};
pub use error::ReadError;
pub use pool::pool;
pub use products::{Product, Ranking, TopProducts, top_products};
pub use sales::{Grain, Period, SalesSeries, sales};
pub use stores::{Store, StorePage, store, stores};

use jiff::civil::Date;
use serde::Serializer;

/// Both ends belong to the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateRange {
    pub from: Date,
    pub to: Date,
}

impl DateRange {
    /// Days in the range, both ends counted.
    pub fn days(self) -> i64 {
        self.from.duration_until(self.to).as_hours() / 24 + 1
    }
}

/// As YYYY-MM-DD.
fn as_date<S: Serializer>(date: &Date, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(date)
}

/// Whether the contract that these reads need is in the database.
pub async fn is_migrated(client: &deadpool_postgres::Client) -> Result<bool, ReadError> {
    let statement = client.prepare_cached(include_str!("../../sql/query/ready.sql")).await?;
    Ok(client.query_one(&statement, &[]).await?.try_get(0)?)
}
