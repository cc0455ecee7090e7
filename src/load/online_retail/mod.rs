//! The Online Retail data set as sales: stores by country, one sale per invoice, every CSV line a sale line.
//!
//! The whole file is read and checked before anything is written. Ids are derived from the invoice, so that
//! loading twice loads nothing twice. Amounts are US dollars as the file has them, bolívares at 36.50.

mod book;
mod bulk;
mod catalogue;
mod rows;
mod ticket;

use crate::db::Server;
use crate::error::{Error, Result};
use crate::{interrupt, retail};
use book::Book;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Columns of the file, in this order:
  InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
An invoice whose number begins with C is a return, with A an adjustment (in no KPI).
Loading again is safe: invoices already there are skipped.

Examples:
  pulso load online-retail online-retail.csv.gz
  pulso load online-retail online-retail.csv.gz --ticket --limit 1500
  pulso load online-retail online-retail.csv.gz --json")]
pub struct Args {
    /// The data set, as CSV or gzipped CSV
    file: PathBuf,

    /// One transaction per invoice, as a till sells, instead of one for the whole file
    #[arg(long)]
    ticket: bool,

    /// Load only the first N invoices of the file
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,

    /// Print one line of JSON: sales, lines, skipped, seconds, interrupted
    #[arg(long)]
    json: bool,
}

/// How the sales are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// All in one transaction, by COPY: an interrupted load leaves nothing.
    #[default]
    Bulk,
    /// A transaction per invoice: an interrupted load leaves whole invoices, and the next goes on.
    Ticket,
}

/// A load, beyond its file.
#[derive(Debug, Clone)]
pub struct Options {
    pub mode: Mode,
    /// Only the first invoices of the file.
    pub limit: Option<usize>,
    pub progress: ProgressBar,
    pub cancel: CancellationToken,
}

impl From<Mode> for Options {
    fn from(mode: Mode) -> Self {
        Self { mode, limit: None, progress: ProgressBar::hidden(), cancel: CancellationToken::new() }
    }
}

/// What a load did.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Loaded {
    pub sales: usize,
    pub lines: usize,
    /// Sales of the file that were there already.
    pub skipped: usize,
    pub seconds: f64,
    /// Stopped before its end. In bulk mode nothing was loaded then.
    pub interrupted: bool,
}

pub async fn run(server: &Server, args: Args) -> Result<ExitCode> {
    let mut client = server.connect().await?;
    let options = Options {
        mode: if args.ticket { Mode::Ticket } else { Mode::Bulk },
        limit: args.limit.map(|n| n as usize),
        progress: if args.json { ProgressBar::hidden() } else { ProgressBar::new(0) },
        cancel: interrupt::token(),
    };
    let loaded = load(&mut client, &args.file, options).await?;
    if args.json {
        println!("{}", serde_json::json!(loaded));
    } else {
        println!("{}", loaded.sentence(args.ticket));
    }
    Ok(if loaded.interrupted { ExitCode::from(interrupt::EXIT_CODE) } else { ExitCode::SUCCESS })
}

/// Loads the file into the retail tables of a migrated database.
pub async fn load(client: &mut Client, path: &Path, options: impl Into<Options>) -> Result<Loaded> {
    let options = options.into();
    let started = Instant::now();
    let outcome = checked_load(client, path, &options).await;
    options.progress.finish_and_clear();
    let mut loaded = outcome?;
    loaded.seconds = (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    Ok(loaded)
}

async fn checked_load(client: &mut Client, path: &Path, options: &Options) -> Result<Loaded> {
    retail::require_tables(client).await?;
    let Some(mut book) = read(path, options).await? else {
        return Ok(Loaded { interrupted: true, ..Loaded::default() });
    };
    if let Some(limit) = options.limit {
        book.keep_first(limit);
    }
    match options.mode {
        Mode::Bulk => bulk::write(client, &book, options).await,
        Mode::Ticket => ticket::write(client, &book, options).await,
    }
}

/// Reads and checks the whole file; `None` when interrupted.
async fn read(path: &Path, options: &Options) -> Result<Option<Book>> {
    let (path, progress, cancel) = (path.to_owned(), options.progress.clone(), options.cancel.clone());
    tokio::task::spawn_blocking(move || Book::read(&path, &progress, &cancel))
        .await
        .map_err(|error| Error::failed(format!("the reader stopped: {error}")))?
}

/// The sales of the book that the database holds already.
async fn already_there(client: &impl tokio_postgres::GenericClient, book: &Book) -> Result<HashSet<Uuid>> {
    let ids: Vec<Uuid> = book.sales.iter().map(|sale| sale.id).collect();
    let rows = client.query("select id from public.sales where id = any($1)", &[&ids]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The source does not tell how an invoice was paid.
fn payment() -> retail::Jsonb {
    retail::Jsonb(r#"{"method":"unknown"}"#.to_owned())
}

fn show_lines(progress: &ProgressBar, what: &'static str, total: u64) {
    progress.reset();
    progress.set_length(total);
    progress.set_message(what);
    progress.set_style(style("{msg} {bar:30} {human_pos}/{human_len} ({per_sec}, {eta} left)"));
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Loaded {
    fn sentence(&self, ticket: bool) -> String {
        let sales = HumanCount(self.sales as u64);
        let skipped = match self.skipped {
            0 => String::new(),
            n => format!("; {} were there already", HumanCount(n as u64)),
        };
        match (self.interrupted, ticket) {
            (true, false) => "Interrupted: nothing was loaded.".to_owned(),
            (true, true) => format!("Interrupted: {sales} sales are loaded{skipped}. Run it again to go on."),
            (false, _) if self.sales == 0 => format!("Loaded 0 sales{skipped}."),
            (false, _) => {
                let lines = HumanCount(self.lines as u64);
                format!("Loaded {sales} sales with {lines} lines in {:.1} s{skipped}.", self.seconds)
            }
        }
    }
}
