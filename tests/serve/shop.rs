//! Sales made by hand, each with its amounts in view.

use tokio_postgres::Client;

/// A grocery that follows the calendar, and a bar whose day starts at 04:00.
pub const GROCERY: &str = "00000000-0000-4000-8000-000000000001";
pub const BAR: &str = "00000000-0000-4000-8000-000000000002";
/// A Thursday.
pub const DAY: &str = "2026-07-30";

pub async fn open(client: &Client) {
    client.batch_execute(include_str!("shop.sql")).await.expect("the shops open");
}

/// What the contract's figures of one business day are by their definitions, straight from the sales.
pub async fn recount(client: &Client, store: &str, day: &str) -> Recount {
    let row = client.query_one(include_str!("recount.sql"), &[&store, &day]).await.expect("the sales can be counted");
    Recount(row)
}

pub struct Recount(tokio_postgres::Row);

impl Recount {
    /// A figure as decimal text, of any scale.
    pub fn text(&self, figure: &str) -> String {
        self.0.get::<_, Option<String>>(figure).unwrap_or_default()
    }

    pub fn figures(&self) -> Vec<&str> {
        self.0.columns().iter().map(tokio_postgres::Column::name).collect()
    }
}
