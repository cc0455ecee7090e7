//! Whether a URL leads to the server itself, or through a pooler that gives each transaction another session.
//!
//! Such a pooler (PgBouncer in transaction mode) does for reads. LISTEN, session locks and what a session is set to do not
//! outlive a transaction there, silently: commands that rest on them refuse it and ask for the server's own address.

use crate::db;
use crate::error::{Error, Result};
use crate::read::Pooling;
use std::time::Duration;
use tokio_postgres::{Client, SimpleQueryMessage};
use uuid::Uuid;

/// A pooler with one session lets the other connection wait for ever.
const PATIENCE: Duration = Duration::from_secs(2);
const TRIES: usize = 5;

/// How reads get their sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Wish {
    /// Look
    #[default]
    Auto,
    /// Straight to the server, or a pooler in session mode
    Session,
    /// A pooler in transaction mode that keeps prepared statements: PgBouncer 1.21 with max_prepared_statements
    Prepared,
    /// A pooler in transaction mode that does not: statements go without a name
    Unnamed,
}

impl Wish {
    pub async fn pooling(self, url: &str) -> Result<Pooling> {
        match self {
            Self::Auto => look(url).await,
            Self::Session => Ok(Pooling::Session),
            Self::Prepared => Ok(Pooling::Transaction { prepared: true }),
            Self::Unnamed => Ok(Pooling::Transaction { prepared: false }),
        }
    }
}

/// Asks two connections for the process that serves them. Of a server each has its own, always the same; a pooler gives
/// both the one that is free.
pub async fn look(url: &str) -> Result<Pooling> {
    let (one, other) = (db::connect(url).await?, db::connect(url).await?);
    let mut seen = Vec::new();
    for client in [&one, &other, &one, &other] {
        seen.push(first(client, "select pg_backend_pid()").await?);
    }
    if seen[0] == seen[2] && seen[1] == seen[3] && seen[0] != seen[1] {
        return Ok(Pooling::Session);
    }
    for _ in 0..TRIES {
        if let Some(prepared) = keeps_statements(&one, &other).await? {
            return Ok(Pooling::Transaction { prepared });
        }
    }
    Ok(Pooling::Transaction { prepared: false })
}

/// Refuses a pooler in transaction mode, for what rests on a session.
pub async fn refuse(url: &str) -> Result<()> {
    match look(url).await? {
        Pooling::Session => Ok(()),
        Pooling::Transaction { .. } => Err(Error::usage(
            "DATABASE_URL leads through a pooler in transaction mode, where LISTEN, session locks and migrations do not work",
        )
        .with_hint("Name the server itself with PULSO_DIRECT_URL (or --direct-url); `pulso serve` then reads through the pooler.")),
    }
}

/// Whether a statement prepared in one session can be run when another serves; `None` if no other did.
async fn keeps_statements(one: &Client, other: &Client) -> Result<Option<bool>> {
    // Told apart from everybody's by its text.
    let text = format!("select pg_catalog.pg_backend_pid() /* pulso {} */", Uuid::new_v4());
    let home = first(one, "begin; select pg_backend_pid()").await?;
    let statement = one.prepare(&text).await?;
    one.batch_execute("commit").await?;
    // Takes the session that has just become free, which is that one, and keeps it.
    let held = first(other, "begin; select pg_backend_pid()").await?;
    let run =
        if held == home { tokio::time::timeout(PATIENCE, one.query_one(&statement, &[])).await.ok() } else { None };
    // A pooler that does not know of it leaves the statement where it was made.
    let left = format!("select name from pg_catalog.pg_prepared_statements where statement = $pulso${text}$pulso$");
    if held == home
        && !matches!(run, Some(Ok(_)))
        && let Some(name) = maybe(other, &left).await?
    {
        other.batch_execute(&format!("deallocate \"{name}\"")).await?;
    }
    other.batch_execute("commit").await?;
    Ok(run.map(|outcome| outcome.is_ok()).or((held == home).then_some(false)))
}

async fn first(client: &Client, sql: &str) -> Result<String> {
    maybe(client, sql).await?.ok_or_else(|| Error::failed("the server gave no row"))
}

/// By the simple protocol, which every pooler knows.
async fn maybe(client: &Client, sql: &str) -> Result<Option<String>> {
    let answer = client.simple_query(sql).await?;
    Ok(answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}
