//! `pulso key`: keys of the HTTP service. A key is shown once, when it is made; the database keeps its hash.

use crate::db::Server;
use crate::error::{Error, Result};
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{Table, presets};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::process::ExitCode;
use std::str::FromStr;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

/// How every key begins, so that scanners find one that leaked.
pub const PREFIX: &str = "pulso_";
const SECRET_BYTES: usize = 32;
/// Length of the part of a key that is kept to tell keys apart.
const HINT: usize = PREFIX.len() + 6;

/// What a key may do; each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sales figures
    Viewer,
    /// Also customers, cashiers, stock and what it cost
    Manager,
    /// Also metrics
    Admin,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Manager => "manager",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Viewer, Self::Manager, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("there is no role {text}"))
    }
}

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Make a key and print it; it is not shown again
    Create(CreateArgs),
    /// Show the keys, not their secrets
    List(OutputArgs),
    /// Let a key open nothing any more; services notice within five seconds
    Revoke(NameArgs),
}

#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// Print JSON for scripts
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct NameArgs {
    /// The key's name
    name: String,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Args)]
pub struct CreateArgs {
    /// Who or what uses it
    name: String,
    #[arg(long, value_enum, default_value = "viewer")]
    role: Role,
    /// A shop that it may see, by its id; may be given several times
    #[arg(long = "store", value_name = "ID", required_unless_present = "all_stores")]
    stores: Vec<Uuid>,
    /// It may see every shop, those to come too
    #[arg(long, conflicts_with = "stores")]
    all_stores: bool,
    /// Requests a minute [default: the service's --rate-limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    per_minute: Option<i32>,
    /// It ends by itself after so long, as 30d or 12h
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    expires_in: Option<SignedDuration>,
    #[command(flatten)]
    output: OutputArgs,
}

fn lifetime(text: &str) -> Result<SignedDuration, String> {
    let parsed = match text.strip_suffix('d').and_then(|days| days.parse::<i64>().ok()) {
        Some(days) => days.checked_mul(24).map(SignedDuration::from_hours),
        None => text.parse().ok(),
    };
    parsed
        .filter(|time| time.is_positive() && time.as_hours() <= 100 * 366 * 24)
        .ok_or_else(|| "write it as 30d or 12h, a hundred years at most".to_owned())
}

pub async fn run(server: &Server, command: Command) -> Result<ExitCode> {
    let client = server.migrated().await?;
    match command {
        Command::Create(args) => create(&client, args).await,
        Command::List(output) => list(&client, output.json).await,
        Command::Revoke(args) => revoke(&client, &args).await,
    }
}

/// What is kept of a key.
pub fn hash(key: &str) -> Vec<u8> {
    Sha256::digest(key.as_bytes()).to_vec()
}

fn new_key() -> String {
    let secret: [u8; SECRET_BYTES] = rand::random();
    secret.iter().fold(PREFIX.to_owned(), |mut key, byte| {
        // Writing into a String cannot fail.
        let _ = write!(key, "{byte:02x}");
        key
    })
}

async fn create(client: &Client, args: CreateArgs) -> Result<ExitCode> {
    for store in &args.stores {
        if client.query_opt("select from public.stores where id = $1", &[store]).await?.is_none() {
            return Err(Error::failed(format!("there is no store {store}"))
                .with_hint("The stores are listed by: select id, name from public.stores"));
        }
    }
    let key = new_key();
    let stores = (!args.all_stores).then_some(&args.stores);
    let expires: Option<Timestamp> = args.expires_in.and_then(|time| Timestamp::now().checked_add(time).ok());
    let outcome = client
        .execute(
            "insert into pulso.api_key (name, hint, hash, role, stores, per_minute, expires_at) values ($1, $2, $3, $4, $5, $6, $7)",
            &[&args.name, &&key[..HINT], &hash(&key), &args.role.as_str(), &stores, &args.per_minute, &expires],
        )
        .await;
    if let Err(error) = outcome {
        return Err(match error.code() {
            Some(&SqlState::UNIQUE_VIOLATION) => Error::failed(format!("there is a key {} already", args.name))
                .with_hint("`pulso key list` shows them; names are not used twice, so that logs stay true."),
            _ => error.into(),
        });
    }
    if args.output.json {
        println!("{}", json!({ "name": args.name, "key": key, "role": args.role.as_str(), "stores": stores }));
    } else {
        println!("{key}");
        eprintln!("Keep it: it is not shown again. Send it as: Authorization: Bearer {}…", &key[..HINT]);
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &Client, as_json: bool) -> Result<ExitCode> {
    let rows = client.query(include_str!("../../sql/key/list.sql"), &[]).await?;
    let mut items = Vec::new();
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "name",
        "key",
        "role",
        "stores",
        "a minute",
        "created",
        "state",
        "last used",
        "30 days",
        "refused",
        "failed",
    ]);
    for row in &rows {
        let (name, hint, role, state): (&str, &str, &str, &str) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(8)?);
        let (stores, per_minute): (Option<Vec<Uuid>>, Option<i32>) = (row.try_get(3)?, row.try_get(4)?);
        let (requests, refused, failed): (i64, i64, i64) = (row.try_get(10)?, row.try_get(11)?, row.try_get(12)?);
        let at = |column| -> Result<Option<String>> {
            let at: Option<Timestamp> = row.try_get(column)?;
            Ok(at.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()))
        };
        items.push(json!({
            "name": name, "hint": hint, "role": role, "stores": stores, "per_minute": per_minute,
            "created_at": at(5)?, "expires_at": at(6)?, "revoked_at": at(7)?, "state": state, "last_used_at": at(9)?,
            "requests_30d": requests, "refused_30d": refused, "failed_30d": failed,
        }));
        table.add_row([
            name.to_owned(),
            format!("{hint}…"),
            role.to_owned(),
            stores.map_or_else(|| "all".to_owned(), |stores| stores.len().to_string()),
            per_minute.map_or_else(|| "default".to_owned(), |n| n.to_string()),
            at(5)?.unwrap_or_default(),
            state.to_owned(),
            at(9)?.unwrap_or_else(|| "never".to_owned()),
            requests.to_string(),
            refused.to_string(),
            failed.to_string(),
        ]);
    }
    if as_json {
        println!("{}", Value::Array(items));
    } else if rows.is_empty() {
        println!("there are no keys; `pulso key create` makes one, and from then on the service asks for it");
    } else {
        println!("{}", table.trim_fmt());
    }
    Ok(ExitCode::SUCCESS)
}

async fn revoke(client: &Client, args: &NameArgs) -> Result<ExitCode> {
    let sql = "update pulso.api_key set revoked_at = coalesce(revoked_at, now()) where name = $1";
    if client.execute(sql, &[&args.name]).await? == 0 {
        return Err(Error::failed(format!("there is no key {}", args.name))
            .with_hint("`pulso key list` shows those there are."));
    }
    if args.output.json {
        println!("{}", json!({ "name": args.name, "revoked": true }));
    } else {
        println!("{} is revoked", args.name);
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_random_and_told_apart_by_their_beginning() {
        let (one, other) = (new_key(), new_key());
        assert_eq!(one.len(), PREFIX.len() + 2 * SECRET_BYTES);
        assert_ne!(one, other);
        assert_ne!(hash(&one), hash(&other));
        assert_eq!(hash(&one).len(), 32);
    }

    #[test]
    fn lifetimes_are_bounded() {
        assert_eq!(lifetime("30d"), Ok(SignedDuration::from_hours(720)));
        assert_eq!(lifetime("12h"), Ok(SignedDuration::from_hours(12)));
        for bad in ["", "0d", "-1d", "99999999d", "soon", "9223372036854775807d"] {
            assert!(lifetime(bad).is_err(), "{bad}");
        }
    }
}
