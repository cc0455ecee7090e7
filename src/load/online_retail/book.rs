//! The file as stores, products, customers and sales, complete in memory before anything is written.

use super::rows::{self, Row, Rows};
use crate::error::Result;
use crate::retail::{Amounts, Kind, Totals};
use indicatif::ProgressBar;
use jiff::Timestamp;
use rust_decimal::Decimal;
use std::collections::HashMap;
use std::path::Path;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Namespace of every id the loader derives. Changing it would load everything twice.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f6e_6c69_6e65_5072_8574_6169_6c00_0001);
/// An invoice beyond this is an error of the file, and exact arithmetic ends not far above.
const TOTAL_LIMIT: i64 = 1_000_000_000_000_000_000;

/// Bolívares for one US dollar: 36.50, for the whole data set.
pub fn rate() -> Decimal {
    Decimal::new(365, 1)
}

#[derive(Debug)]
pub struct Store {
    pub id: Uuid,
    pub name: String,
}

#[derive(Debug)]
pub struct Product {
    pub id: Uuid,
    pub store: usize,
    pub sku: String,
    /// The latest description; `None` when never described.
    pub name: Option<String>,
    described_at: Timestamp,
}

#[derive(Debug)]
pub struct Customer {
    pub id: Uuid,
    /// Where the customer bought first.
    pub store: usize,
    pub document: String,
}

#[derive(Debug)]
pub struct Line {
    pub product: usize,
    pub qty: Decimal,
    pub price: Decimal,
}

#[derive(Debug)]
pub struct Sale {
    pub id: Uuid,
    pub number: String,
    pub store: usize,
    pub customer: Option<usize>,
    pub kind: Kind,
    /// The earliest time among the invoice's lines.
    pub sold_at: Timestamp,
    pub lines: Vec<Line>,
    gross: Decimal,
    units: Decimal,
}

impl Sale {
    pub fn totals(&self) -> Totals {
        let amounts = |gross| Amounts { gross, ..Amounts::default() };
        Totals { usd: amounts(self.gross), bs: amounts(self.gross * rate()), items: self.units }
    }

    /// The sale's id with the line number in its last four bytes (a UUID version 8): lines of a sale lie together
    /// in the index (541,909 of them insert in 7.2 s instead of 10.0).
    pub fn line_id(&self, line_no: i32) -> Uuid {
        let mut bytes = *self.id.as_bytes();
        bytes[12..].copy_from_slice(&line_no.to_be_bytes());
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

#[derive(Debug, Default)]
pub struct Book {
    pub stores: Vec<Store>,
    pub products: Vec<Product>,
    pub customers: Vec<Customer>,
    /// In the order of the file.
    pub sales: Vec<Sale>,
}

impl Book {
    /// Reads and checks the whole file. `None` when cancelled.
    pub fn read(path: &Path, progress: &ProgressBar, cancel: &CancellationToken) -> Result<Option<Self>> {
        progress.set_style(super::style("Reading {bar:30} {bytes}/{total_bytes}"));
        Self::from_rows(Rows::open(path, progress)?, cancel)
    }

    pub(super) fn from_rows(mut rows: Rows, cancel: &CancellationToken) -> Result<Option<Self>> {
        let mut book = Self::default();
        let mut index = Index::default();
        loop {
            let outcome = match rows.next()? {
                Some(row) => book.add(&mut index, &row),
                None => return Ok(Some(book)),
            };
            outcome.map_err(|wrong| rows.reject(wrong.column, &wrong.found, &wrong.expected))?;
            if cancel.is_cancelled() {
                return Ok(None);
            }
        }
    }

    /// Forgets all but the first `limit` invoices. Names stay those of the whole file, so that a slice and the
    /// whole agree on them whatever is loaded first.
    pub fn keep_first(&mut self, limit: usize) {
        self.sales.truncate(limit);
    }

    pub fn line_count(&self) -> usize {
        self.sales.iter().map(|sale| sale.lines.len()).sum()
    }

    fn add(&mut self, index: &mut Index, row: &Row<'_>) -> Result<(), Wrong> {
        let store = index.stores.get_or_add(row.country, || {
            self.stores.push(Store { id: id("store", row.country), name: row.country.to_owned() });
        });
        let customer = row.customer.map(|document| {
            index.customers.get_or_add(document, || {
                self.customers.push(Customer { id: id("customer", document), store, document: document.to_owned() });
            })
        });
        let product = self.product(index, store, row);
        let position = index.sales.get_or_add(row.invoice, || {
            self.sales.push(Sale {
                id: id("sale", row.invoice),
                number: row.invoice.to_owned(),
                store,
                customer,
                kind: kind(row.invoice),
                sold_at: row.sold_at,
                lines: Vec::new(),
                gross: Decimal::ZERO,
                units: Decimal::ZERO,
            });
        });
        let sale = &mut self.sales[position];
        if sale.store != store {
            let first = &self.stores[sale.store].name;
            return Err(Wrong::new(
                rows::COUNTRY,
                row.country,
                format!("{first:?}, the country of the invoice's first line ({})", row.invoice),
            ));
        }
        if sale.customer != customer {
            let first = sale.customer.map_or("", |at| self.customers[at].document.as_str());
            let found = row.customer.unwrap_or_default();
            return Err(Wrong::new(
                rows::CUSTOMER,
                found,
                format!("{first:?}, the customer of the invoice's first line ({})", row.invoice),
            ));
        }
        sale.sold_at = sale.sold_at.min(row.sold_at);
        sale.units += row.qty;
        sale.gross += row.qty * row.price;
        if sale.gross.abs() >= Decimal::from(TOTAL_LIMIT) {
            return Err(Wrong::new(
                rows::PRICE,
                &row.price.to_string(),
                format!("an invoice total of at most 18 digits ({})", row.invoice),
            ));
        }
        sale.lines.push(Line { product, qty: row.qty, price: row.price });
        Ok(())
    }

    fn product(&mut self, index: &mut Index, store: usize, row: &Row<'_>) -> usize {
        if index.products.len() <= store {
            index.products.resize_with(store + 1, HashMap::new);
        }
        let position = match index.products[store].get(row.sku) {
            Some(position) => *position,
            None => {
                let position = self.products.len();
                index.products[store].insert(row.sku.to_owned(), position);
                let id = Uuid::new_v5(&self.stores[store].id, row.sku.as_bytes());
                self.products.push(Product {
                    id,
                    store,
                    sku: row.sku.to_owned(),
                    name: None,
                    described_at: Timestamp::MIN,
                });
                position
            }
        };
        let product = &mut self.products[position];
        if let Some(description) = row.description.filter(|_| row.sold_at >= product.described_at) {
            product.described_at = row.sold_at;
            if product.name.as_deref() != Some(description) {
                product.name = Some(description.to_owned());
            }
        }
        position
    }
}

fn id(what: &str, key: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{what}/{key}").as_bytes())
}

fn kind(invoice: &str) -> Kind {
    match invoice.as_bytes().first() {
        Some(b'C') => Kind::Return,
        Some(b'A') => Kind::Adjustment,
        _ => Kind::Sale,
    }
}

/// A row that contradicts the rows before it.
struct Wrong {
    column: usize,
    found: String,
    expected: String,
}

impl Wrong {
    fn new(column: usize, found: &str, expected: String) -> Self {
        Self { column, found: found.to_owned(), expected }
    }
}

/// Where each key stands in the book.
#[derive(Default)]
struct Index {
    stores: Positions,
    customers: Positions,
    sales: Positions,
    /// By store.
    products: Vec<HashMap<String, usize>>,
}

#[derive(Default)]
struct Positions(HashMap<String, usize>);

impl Positions {
    fn get_or_add(&mut self, key: &str, add: impl FnOnce()) -> usize {
        if let Some(position) = self.0.get(key) {
            return *position;
        }
        let position = self.0.len();
        self.0.insert(key.to_owned(), position);
        add();
        position
    }
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
