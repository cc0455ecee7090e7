//! The file, row by row: each field is checked, and what is wrong is named as `file:line:column`.
//!
//! The column is the field's ordinal in the row, from 1; the line is where the row begins in the (unpacked) file.

use crate::error::{Error, Result};
use csv::{ErrorKind, StringRecord};
use flate2::read::MultiGzDecoder;
use indicatif::ProgressBar;
use jiff::Timestamp;
use jiff::civil::DateTime;
use rust_decimal::Decimal;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

pub const COLUMNS: [&str; 8] =
    ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"];

pub const INVOICE: usize = 0;
pub const SKU: usize = 1;
const DESCRIPTION: usize = 2;
const QUANTITY: usize = 3;
const DATE: usize = 4;
pub const PRICE: usize = 5;
pub const CUSTOMER: usize = 6;
pub const COUNTRY: usize = 7;

/// A longer field is a quote that was never closed, not a field.
const MAX_CHARS: usize = 500;
/// `numeric(14, 3)`, the type of `sale_items.qty`.
const QUANTITY_LIMIT: i64 = 100_000_000_000;
/// 36.50 times this still fits `numeric(18, 4)`, the type of `sale_items.unit_price_bs`.
const PRICE_LIMIT: i64 = 1_000_000_000_000;

/// A row, checked.
#[derive(Debug)]
pub struct Row<'a> {
    pub invoice: &'a str,
    pub sku: &'a str,
    pub description: Option<&'a str>,
    pub qty: Decimal,
    pub sold_at: Timestamp,
    pub price: Decimal,
    pub customer: Option<&'a str>,
    pub country: &'a str,
}

/// The open file and where the reading is.
pub struct Rows {
    name: String,
    reader: csv::Reader<Box<dyn Read>>,
    record: StringRecord,
}

impl Rows {
    /// Opens a CSV or gzipped CSV (told apart by its first bytes) and checks its header.
    pub fn open(path: &Path, progress: &ProgressBar) -> Result<Self> {
        let name =
            path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
        let unreadable = |error: std::io::Error| Error::usage(format!("cannot read {}: {error}", path.display()));
        let file = File::open(path).map_err(unreadable)?;
        progress.set_length(file.metadata().map_err(unreadable)?.len());
        let mut bytes = BufReader::with_capacity(1 << 16, progress.wrap_read(file));
        let gzipped = bytes.fill_buf().map_err(unreadable)?.starts_with(&[0x1f, 0x8b]);
        Self::from_reader(name, if gzipped { Box::new(MultiGzDecoder::new(bytes)) } else { Box::new(bytes) })
    }

    pub(super) fn from_reader(name: String, bytes: Box<dyn Read>) -> Result<Self> {
        let reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
        let mut rows = Self { name, reader, record: StringRecord::new() };
        if !rows.advance()? {
            return Err(Error::usage(format!(
                "{}:1:1: the file is empty, expected the header {}",
                rows.name,
                COLUMNS.join(",")
            )));
        }
        for (column, expected) in COLUMNS.iter().enumerate() {
            if rows.record.get(column) != Some(expected) {
                let found = rows.record.get(column).unwrap_or("the end of the header");
                return Err(rows.reject(column, found, &format!("the header {}", COLUMNS.join(","))));
            }
        }
        rows.check_count()?;
        Ok(rows)
    }

    fn advance(&mut self) -> Result<bool> {
        self.reader.read_record(&mut self.record).map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line);
            match error.kind() {
                ErrorKind::Utf8 { err, .. } => {
                    Error::usage(format!("{}:{line}:{}: the text is not UTF-8", self.name, err.field() + 1))
                }
                ErrorKind::Io(cause) => Error::usage(format!("{}: cannot be read to its end: {cause}", self.name)),
                _ => Error::usage(format!("{}:{line}: {error}", self.name)),
            }
        })
    }

    /// The next row, or `None` at the end of the file.
    pub fn next(&mut self) -> Result<Option<Row<'_>>> {
        if !self.advance()? {
            return Ok(None);
        }
        self.check_count()?;
        Ok(Some(Row {
            invoice: self.text(INVOICE, "an invoice number")?,
            sku: self.text(SKU, "a stock code")?,
            description: self.optional(DESCRIPTION)?,
            qty: self.quantity()?,
            sold_at: self.instant()?,
            price: self.price()?,
            customer: self.customer()?,
            country: self.text(COUNTRY, "a country")?,
        }))
    }

    /// An error at a column of the row that was read last.
    pub fn reject(&self, column: usize, found: &str, expected: &str) -> Error {
        let line = self.record.position().map_or(0, csv::Position::line);
        let name = COLUMNS.get(column).copied().unwrap_or("beyond the last column");
        let found: String = if found.chars().count() > 40 {
            found.chars().take(40).chain("…".chars()).collect()
        } else {
            found.to_owned()
        };
        Error::usage(format!("{}:{line}:{}: {name}: found {found:?}, expected {expected}", self.name, column + 1))
    }

    fn check_count(&self) -> Result<()> {
        let count = self.record.len();
        if count == COLUMNS.len() {
            return Ok(());
        }
        let column = count.min(COLUMNS.len());
        Err(self.reject(
            column,
            &format!("{count} fields"),
            &format!("{} fields: {}", COLUMNS.len(), COLUMNS.join(",")),
        ))
    }

    fn field(&self, column: usize) -> &str {
        self.record.get(column).unwrap_or_default()
    }

    fn optional(&self, column: usize) -> Result<Option<&str>> {
        let field = self.field(column).trim();
        if field.contains('\0') {
            return Err(self.reject(column, field, "text without NUL characters"));
        }
        if field.chars().count() > MAX_CHARS {
            return Err(self.reject(column, field, &format!("at most {MAX_CHARS} characters; is a quote left open?")));
        }
        Ok((!field.is_empty()).then_some(field))
    }

    fn text(&self, column: usize, expected: &str) -> Result<&str> {
        self.optional(column)?.ok_or_else(|| self.reject(column, self.field(column), expected))
    }

    fn quantity(&self) -> Result<Decimal> {
        let field = self.field(QUANTITY);
        match field.parse::<i64>() {
            Ok(n) if n.abs() < QUANTITY_LIMIT => Ok(Decimal::from(n)),
            Ok(_) => Err(self.reject(QUANTITY, field, "a quantity of at most 11 digits")),
            Err(_) => Err(self.reject(QUANTITY, field, "a whole number such as 6 or -1")),
        }
    }

    fn instant(&self) -> Result<Timestamp> {
        let field = self.field(DATE);
        let parsed = (field.len() == "2010-12-01 08:26:00".len()).then(|| field.parse::<DateTime>().ok()).flatten();
        parsed
            .and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::UTC).ok())
            .map(|zoned| zoned.timestamp())
            .ok_or_else(|| self.reject(DATE, field, "a time such as 2010-12-01 08:26:00"))
    }

    fn price(&self) -> Result<Decimal> {
        let field = self.field(PRICE);
        let digits = field.strip_prefix('-').unwrap_or(field);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_number =
            [whole, fraction].iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
        if !is_number {
            return Err(self.reject(PRICE, field, "a decimal number such as 2.55"));
        }
        match Decimal::from_str_exact(field) {
            Ok(price) if price.abs() >= Decimal::from(PRICE_LIMIT) => {
                Err(self.reject(PRICE, field, "a price of at most 12 digits"))
            }
            Ok(price) if price.normalize().scale() <= 3 => Ok(price.normalize()),
            Ok(_) => Err(self.reject(PRICE, field, "a price of at most 3 decimals")),
            Err(_) => Err(self.reject(PRICE, field, "a price of at most 12 digits and 3 decimals")),
        }
    }

    /// The source writes customer numbers as floats: `17850.0`.
    fn customer(&self) -> Result<Option<&str>> {
        let Some(field) = self.optional(CUSTOMER)? else {
            return Ok(None);
        };
        let number = field.strip_suffix(".0").unwrap_or(field);
        if number.is_empty() || number.len() > 20 || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(self.reject(CUSTOMER, field, "a customer number such as 17850.0, or nothing"));
        }
        Ok(Some(number))
    }
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
