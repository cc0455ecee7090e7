//! The reads of the contract: one SQL file in `sql/query`, one prepared statement and one function each.
//! The HTTP routes and the terminal dashboard both use them, so they cannot tell different numbers.

mod abc;
mod affinity;
mod breakdown;
mod cashiers;
mod categories;
mod chain;
mod customers;
mod dashboard;
mod decimal;
mod error;
mod freshness;
mod heatmap;
mod inventory;
mod payments;
mod pool;
mod products;
mod reader;
mod rfm;
mod sales;
mod standby;
mod stores;

pub use abc::{AbcProduct, ProductAbc, product_abc};
pub use affinity::{Affinity, Pair, affinity};
pub use breakdown::{BreakdownRow, Dimension, SalesBreakdown, sales_breakdown};
pub use cashiers::{Cashier, Cashiers, cashiers};
pub use categories::{Category, CategoryMix, category_mix};
pub use chain::{Chain, ChainStore, chain, chain_today};
pub use customers::{CustomerFigures, Customers, customers};
pub use dashboard::{Change, Comparison, Dashboard, HourSales, Tender, dashboard, dashboards};
pub use decimal::{Money, Number};
pub use error::ReadError;
pub use freshness::{FreshView, Freshness, freshness};
pub use heatmap::{Heatmap, HeatmapCell, heatmap};
pub use inventory::{Inventory, InventoryTotals, StockCover, inventory};
pub use payments::{PaymentMethod, Payments, TenderTotal, payments};
pub(crate) use pool::sql;
pub use pool::{Pool, Pooling, Ran, Sql, pool};
pub use products::{Product, Ranking, TopProducts, top_products};
pub use reader::{Detour, Held, Reader};
pub use rfm::{Rfm, RfmCustomer, Segment, rfm};
pub use sales::{Grain, Period, SalesSeries, sales};
pub use standby::{Cause, Standby};
pub use stores::{Place, Store, store, stores};

use jiff::civil::Date;
use serde::Serializer;
use serde::de::DeserializeOwned;
use tokio_postgres::types::{Json, ToSql};

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

/// Rows of a query that gives each as one JSON object, amounts as text.
async fn rows<T: DeserializeOwned>(
    client: &Reader,
    sql: Sql,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<T>, ReadError> {
    let rows = client.query(sql, parameters).await?;
    rows.iter().map(|row| Ok(row.try_get::<_, Json<T>>(0)?.0)).collect()
}

/// Whether the contract that these reads need is in the database.
pub async fn is_migrated(client: &Reader) -> Result<bool, ReadError> {
    let sql = sql!("ready");
    Ok(client.query_one(sql, &[]).await?.try_get(0)?)
}
