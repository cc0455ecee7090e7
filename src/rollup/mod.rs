//! `pulso rollup`: rollups made, filled, changed and looked after from the terminal.
//!
//! What may take long goes on while people write, shows how far it is, and leaves nothing half done when it is
//! interrupted: each step is one transaction of the server's.

mod args;
pub(crate) mod fill;
mod list;

use crate::db::Server;
use crate::error::{Error, Result};
use crate::interrupt;
use args::{QueryArgs, name_of};
use clap::{Args, Subcommand};
use fill::{Outcome, Session};
use serde_json::{Value, json};
use std::process::ExitCode;
use tokio_postgres::Client;

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Show the rollups: what they rest on, whether they are live, and how far they are folded
    List(OutputArgs),
    /// Make a rollup and fill it while the shop goes on selling
    Create(CreateArgs),
    /// Fill a rollup that is not built yet, or finish an alter
    Build(NameArgs),
    /// Compare rollups with their queries; exit code 1 where they differ
    Verify(VerifyArgs),
    /// Fill a rollup anew from its table, whatever it holds
    Repair(NameArgs),
    /// Give a rollup another query under the same view; columns can be added at its end
    Alter(CreateArgs),
    /// Show the SQL that is run for a rollup
    Explain(NameArgs),
    /// Drop a rollup: its view, its tables, and the triggers if it was the last on its table
    Drop(NameArgs),
    /// Fold pending changes now, of one rollup or of all
    Fold(FoldArgs),
}

#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// Print JSON for scripts
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct NameArgs {
    /// The rollup's view, as schema.name
    name: String,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Args)]
pub struct CreateArgs {
    /// The rollup's view, as schema.name
    name: String,
    #[command(flatten)]
    query: QueryArgs,
    /// Leave the filling to `pulso rollup build`; until then the view runs its query (after an alter, the old one)
    #[arg(long)]
    no_build: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// The rollups' views, as schema.name [default: all]
    names: Vec<String>,
    /// Compare a part only: an SQL condition on the rollup's columns, such as "business_date = '2026-03-01'"
    #[arg(long = "where", value_name = "CONDITION")]
    filter: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Args)]
pub struct FoldArgs {
    /// The rollup's view, as schema.name [default: all]
    name: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

pub async fn run(server: &Server, command: Command) -> Result<ExitCode> {
    let client = server.connect().await?;
    require_engine(&client).await?;
    match command {
        Command::List(output) => list::list(&client, output.json).await,
        Command::Verify(args) => verify(&client, args).await,
        Command::Explain(args) => explain(&client, &args).await,
        Command::Fold(args) => fold(&client, args).await,
        Command::Create(args) => create(server, client, args, false).await,
        Command::Alter(args) => create(server, client, args, true).await,
        Command::Build(args) => {
            let name = qualified(&client, &args.name).await?;
            Session::new(server, client, args.output.json).await?.fill(&name, "build").await.map(|o| o.report(&args))
        }
        Command::Repair(args) => {
            let name = qualified(&client, &args.name).await?;
            Session::new(server, client, args.output.json).await?.fill(&name, "repair").await.map(|o| o.report(&args))
        }
        Command::Drop(args) => {
            let name = qualified(&client, &args.name).await?;
            let session = Session::new(server, client, args.output.json).await?;
            // Writers queue behind a lock that is waited for: it is asked for a moment at a time.
            let outcome = session.patiently("select pulso.drop_rollup($1)", &[&name]).await?;
            Ok(outcome.said(&args, &format!("{name} is dropped"), json!({ "name": name, "dropped": true })))
        }
    }
}

async fn require_engine(client: &Client) -> Result<()> {
    let row = client
        .query_one("select (select extversion from pg_extension where extname = 'pulso'), to_regclass('pulso.progress') is not null", &[])
        .await?;
    let version: Option<&str> = row.try_get(0)?;
    match (version, row.try_get(1)?) {
        (None, _) => Err(Error::failed("the extension pulso is not installed in this database")
            .with_hint("Run `pulso migrate up`, or as SQL: create extension pulso")),
        (Some(version), false) => {
            Err(Error::failed(format!("the database has version {version} of the extension pulso, which is too old"))
                .with_hint("Run as SQL: alter extension pulso update"))
        }
        _ => Ok(()),
    }
}

/// The name as the engine takes it, by this session's search path where it is not qualified.
async fn qualified(client: &Client, name: &str) -> Result<String> {
    let row = client
        .query_one(
            "select format('%I.%I', n.nspname, c.relname)
               from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = to_regclass($1)
              union all select null limit 1",
            &[&name],
        )
        .await?;
    row.try_get::<_, Option<String>>(0)?.ok_or_else(|| {
        Error::failed(format!("there is no rollup {name}")).with_hint("`pulso rollup list` shows what there is.")
    })
}

async fn create(server: &Server, client: Client, args: CreateArgs, alter: bool) -> Result<ExitCode> {
    let query = args.query.read()?;
    let name = if alter { qualified(&client, &args.name).await? } else { name_of(&client, &args.name).await? };
    let session = Session::new(server, client, args.output.json).await?;
    let function = if alter { "alter_rollup" } else { "create_rollup" };
    let begun = session.patiently(&format!("select pulso.{function}($1, $2, false)"), &[&name, &query]).await?;
    let named = NameArgs { name: name.clone(), output: args.output };
    if let Outcome::Interrupted = begun {
        return Ok(begun.said(&named, "", Value::Null));
    }
    if args.no_build {
        let sentence = if alter {
            format!("{name} keeps its query until `pulso rollup build {name}` has filled the new one")
        } else {
            format!("{name} is there and runs its query; `pulso rollup build {name}` fills it")
        };
        return Ok(begun.said(&named, &sentence, json!({ "name": name, "built": false })));
    }
    let outcome = session.fill(&name, "build").await?;
    if let Outcome::Interrupted = outcome {
        eprintln!("interrupted: {name} answers by its query; `pulso rollup build {name}` goes on");
    }
    Ok(outcome.report(&named))
}

async fn verify(client: &Client, args: VerifyArgs) -> Result<ExitCode> {
    let names = if args.names.is_empty() { list::names(client).await? } else { args.names };
    let mut differ = false;
    let mut results = Vec::new();
    for name in names {
        let name = qualified(client, &name).await?;
        let rows: i64 = client.query_one("select pulso.verify($1, $2)", &[&name, &args.filter]).await?.try_get(0)?;
        differ |= rows != 0;
        if !args.output.json {
            match rows {
                0 => println!("{name} equals its query"),
                rows => println!("{name} differs from its query in {rows} rows; `pulso rollup repair {name}` mends it"),
            }
        }
        results.push(json!({ "name": name, "differences": rows }));
    }
    if args.output.json {
        println!("{}", Value::Array(results));
    }
    Ok(if differ { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn explain(client: &Client, args: &NameArgs) -> Result<ExitCode> {
    let name = qualified(client, &args.name).await?;
    let rows = client.query("select step, sql from pulso.explain_rollup($1)", &[&name]).await?;
    let mut steps = Vec::new();
    for row in &rows {
        let (step, sql): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        if args.output.json {
            steps.push(json!({ "step": step, "sql": sql }));
        } else {
            println!("-- {step}\n{sql};\n");
        }
    }
    if args.output.json {
        println!("{}", Value::Array(steps));
    }
    Ok(ExitCode::SUCCESS)
}

async fn fold(client: &Client, args: FoldArgs) -> Result<ExitCode> {
    let name = match &args.name {
        Some(name) => Some(qualified(client, name).await?),
        None => None,
    };
    let folded: i64 = client.query_one("select pulso.fold($1)", &[&name]).await?.try_get(0)?;
    if args.output.json {
        println!("{}", json!({ "folded": folded }));
    } else {
        println!("{folded} changes folded");
    }
    Ok(ExitCode::SUCCESS)
}

impl Outcome {
    /// What a build or a repair says at its end.
    fn report(self, args: &NameArgs) -> ExitCode {
        let Self::Done { value, seconds } = self else { return self.said(args, "", Value::Null) };
        let (name, groups) = (&args.name, value.unwrap_or(0));
        let sentence = match groups {
            0 => format!("{name} is live"),
            groups => format!("{name} is live: {groups} groups in {seconds:.1} s"),
        };
        let json = json!({ "name": name, "built": true, "groups": groups, "seconds": seconds });
        self.said(args, &sentence, json)
    }

    /// Prints what was done, and gives the exit code.
    fn said(&self, args: &NameArgs, sentence: &str, json: Value) -> ExitCode {
        match self {
            Self::Interrupted => ExitCode::from(interrupt::EXIT_CODE),
            Self::Done { .. } => {
                if args.output.json {
                    println!("{json}");
                } else {
                    println!("{sentence}");
                }
                ExitCode::SUCCESS
            }
        }
    }
}
