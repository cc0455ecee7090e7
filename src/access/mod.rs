//! `pulso access`: which shops a role of the database sees through SQL. The HTTP service has keys instead (`pulso key`).

use crate::db::Server;
use crate::error::{Error, Result};
use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::process::ExitCode;
use tokio_postgres::Client;
use uuid::Uuid;

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Let a role read schema analytics, of some shops only
    ///
    /// The role must exist. It is granted what reads in schema analytics, and every object there then shows it the rows of
    /// its shops alone. Bind it again for another list, and after `pulso migrate up` for objects that are new.
    Bind(BindArgs),
    /// Show the roles that are bound
    List(OutputArgs),
    /// Take a role's binding away, and its rights in schema analytics with it
    Release(RoleArgs),
}

#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// Print JSON for scripts
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct BindArgs {
    /// The role
    role: String,
    /// A shop that it may see, by its id; may be given several times
    #[arg(long = "store", value_name = "ID", required_unless_present = "all_stores")]
    stores: Vec<Uuid>,
    /// Every shop, those to come too: for a role that inherits a bound one
    #[arg(long, conflicts_with = "stores")]
    all_stores: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Args)]
pub struct RoleArgs {
    /// The role
    role: String,
    #[command(flatten)]
    output: OutputArgs,
}

pub async fn run(server: &Server, command: Command) -> Result<ExitCode> {
    let client = server.migrated().await?;
    match command {
        Command::Bind(args) => bind(&client, &args).await,
        Command::List(output) => list(&client, output.json).await,
        Command::Release(args) => release(&client, &args).await,
    }
}

/// The role as the database knows it.
async fn role(client: &Client, name: &str) -> Result<u32> {
    let row = client.query_opt("select oid from pg_roles where rolname = $1", &[&name]).await?;
    let Some(row) = row else {
        return Err(Error::failed(format!("there is no role {name}"))
            .with_hint(format!("Make it as SQL: create role \"{name}\" login")));
    };
    Ok(row.try_get(0)?)
}

async fn bind(client: &Client, args: &BindArgs) -> Result<ExitCode> {
    let role = role(client, &args.role).await?;
    let stores = (!args.all_stores).then_some(&args.stores);
    client.execute("select pulso.bind_role($1::oid::regrole, $2)", &[&role, &stores]).await?;
    if args.output.json {
        println!("{}", json!({ "role": args.role, "stores": stores }));
    } else {
        let shops = stores.map_or_else(|| "every shop".to_owned(), |stores| format!("{} shops", stores.len()));
        println!("{} sees {shops} in schema analytics", args.role);
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &Client, as_json: bool) -> Result<ExitCode> {
    let sql = "select r.rolname::text, a.stores, a.bound_at from pulso.access a join pg_roles r on r.oid = a.role::oid order by 1";
    let mut items = Vec::new();
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["role", "stores", "bound"]);
    for row in client.query(sql, &[]).await? {
        let (role, stores, at): (String, Option<Vec<Uuid>>, Timestamp) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let at = at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        items.push(json!({ "role": role, "stores": stores, "bound_at": at }));
        let shops = stores.map_or_else(|| "all".to_owned(), |stores| stores.len().to_string());
        table.add_row([role, shops, at]);
    }
    if as_json {
        println!("{}", Value::Array(items));
    } else if items.is_empty() {
        println!("no role is bound to shops; `pulso access bind` does it");
    } else {
        println!("{}", table.trim_fmt());
    }
    Ok(ExitCode::SUCCESS)
}

async fn release(client: &Client, args: &RoleArgs) -> Result<ExitCode> {
    let role = role(client, &args.role).await?;
    let bound: bool = client.query_one("select pulso.release_role($1::oid::regrole)", &[&role]).await?.try_get(0)?;
    if !bound {
        return Err(Error::failed(format!("role {} is not bound to shops", args.role)).with_hint(
            "`pulso access list` shows those that are. Its rights in schema analytics are gone in any case.",
        ));
    }
    if args.output.json {
        println!("{}", json!({ "role": args.role, "released": true }));
    } else {
        println!("{} sees nothing of schema analytics any more", args.role);
    }
    Ok(ExitCode::SUCCESS)
}
