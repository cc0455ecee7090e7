//! `pulso.toml`, and `pulso config`: what is set, where, and whether it is right.
//!
//! clap knows every setting: its flag, its variable, how it is read. A file adds defaults to that and no second list: a key
//! is a flag's name, a section a command's. So flags come before the environment, that before the file, and that before
//! what is built in; and a setting that is new can be set in all of them.

mod file;

pub use file::File;

use crate::cli::{Cli, Command};
use crate::error::{Error, Result};
use clap::parser::ValueSource;
use clap::{Arg, Args, CommandFactory, FromArgMatches, Subcommand};
use comfy_table::{Table, presets};
use serde_json::json;
use std::ffi::OsString;
use std::process::ExitCode;

/// Commands that have a section in the file; keys above all sections are those of the database.
const SECTIONS: [&str; 4] = ["serve", "worker", "doctor", "kpi"];
/// What nobody should set once and for all.
const NEVER: [&str; 4] = ["fresh", "config", "help", "version"];

#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Say what is wrong with pulso.toml and the environment: unknown keys, values that cannot be read, files that are missing
    Check(OutputArgs),
    /// Show each setting as it would be, and where it comes from; secrets are not shown
    Show(OutputArgs),
}

#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// Print JSON for scripts
    #[arg(long)]
    json: bool,
}

/// The command line, read over the environment and the file. A file that cannot be used ends every command but `pulso config`.
pub fn command_line(args: impl IntoIterator<Item = OsString>) -> Result<Cli> {
    let args: Vec<OsString> = args.into_iter().collect();
    let file = File::find(&args)?;
    let faults = file.faults();
    let matches = file.defaults(Cli::command()).get_matches_from(args);
    let cli = Cli::from_arg_matches(&matches).map_err(|error| Error::usage(error.to_string()))?;
    if !matches!(cli.command, Command::Config(_)) && !faults.is_empty() {
        return Err(Error::usage(format!("{} cannot be used: {}", file.name(), faults.join("; "))).with_hint(
            "`pulso config check` says the same and starts nothing; `pulso serve --help` has every setting.",
        ));
    }
    Ok(cli)
}

pub fn run(command: ConfigCommand) -> Result<ExitCode> {
    let file = File::find(&std::env::args_os().collect::<Vec<_>>())?;
    match command {
        ConfigCommand::Check(output) => Ok(check(&file, output.json)),
        ConfigCommand::Show(output) => show(&file, output.json),
    }
}

fn check(file: &File, as_json: bool) -> ExitCode {
    let mut faults = file.faults();
    if faults.is_empty() {
        faults = SECTIONS.iter().filter_map(|section| whole(file, section).err()).collect();
        faults.dedup();
    }
    let good = faults.is_empty();
    if as_json {
        println!("{}", json!({ "file": file.path(), "faults": faults }));
    } else if good {
        println!("{}, the environment and what they name are good", file.name());
    } else {
        for fault in faults {
            println!("{fault}");
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

/// A section as its command would read it, with the environment over it.
fn whole(file: &File, section: &str) -> Result<(), String> {
    let command = file.defaults(Cli::command());
    let matches = command.try_get_matches_from(["pulso", section]).map_err(|error| first_line(&error))?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| first_line(&error))?;
    if let Some(url) = &cli.database.database_url {
        crate::db::config(url).map_err(|error| error.to_string())?;
    }
    if let Some(url) = &cli.database.direct_url {
        crate::db::config(url).map_err(|error| error.to_string().replace("DATABASE_URL", "PULSO_DIRECT_URL"))?;
    }
    match cli.command {
        Command::Serve(args) => {
            args.settings(&cli.database.read_urls).map(drop).map_err(|error| format!("[serve] {error}"))
        }
        _ => Ok(()),
    }
}

/// Without clap's usage and tips. Values of secrets have no parser, so none is in it.
pub(super) fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

fn show(file: &File, as_json: bool) -> Result<ExitCode> {
    let mut items = Vec::new();
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["setting", "value", "from"]);
    for section in SECTIONS {
        let mut command = file.defaults(Cli::command());
        command.build();
        let matches = command.clone().try_get_matches_from(["pulso", section]).map_err(|error| {
            Error::usage(first_line(&error)).with_hint("`pulso config check` lists all that is wrong.")
        })?;
        let Some((_, inner)) = matches.subcommand() else { continue };
        let definition = command.find_subcommand(section).cloned().unwrap_or_default();
        for arg in definition.get_arguments().filter(|arg| may_be_set(arg)) {
            let (id, long) = (arg.get_id().as_str(), arg.get_long().unwrap_or_default());
            // Global ones are shown once.
            let global = arg.is_global_set();
            if global && section != SECTIONS[0] {
                continue;
            }
            let raw: Vec<String> =
                inner.get_raw(id).into_iter().flatten().map(|value| value.to_string_lossy().into_owned()).collect();
            let value = if arg.is_hide_env_values_set() { raw.iter().map(|url| redacted(url)).collect() } else { raw };
            let key = if global { long.replace('-', "_") } else { format!("{section}.{}", long.replace('-', "_")) };
            let from = match inner.value_source(id) {
                Some(ValueSource::EnvVariable) => {
                    arg.get_env().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
                }
                Some(ValueSource::CommandLine) => format!("--{long}"),
                Some(_) => {
                    file.line_of(&key).map_or_else(|| "default".to_owned(), |line| format!("{}:{line}", file.name()))
                }
                None => "not set".to_owned(),
            };
            let value = value.join(", ");
            items.push(json!({ "setting": key, "value": value, "from": from }));
            table.add_row([key, value, from]);
        }
    }
    match as_json {
        true => println!("{}", serde_json::Value::Array(items)),
        false => println!("{}", table.trim_fmt()),
    }
    Ok(ExitCode::SUCCESS)
}

fn may_be_set(arg: &Arg) -> bool {
    arg.get_long().is_some_and(|long| !NEVER.contains(&long) && long != "json")
}

/// A connection string without its secrets: what could be told apart of it, or nothing.
fn redacted(url: &str) -> String {
    if ["redis", "valkey", "unix:"].iter().any(|scheme| url.starts_with(scheme)) {
        return "(set)".to_owned();
    }
    let Ok(config) = url.parse::<tokio_postgres::Config>() else { return "(set; it cannot be read)".to_owned() };
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .map(|host| match host {
            tokio_postgres::config::Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            tokio_postgres::config::Host::Unix(dir) => dir.display().to_string(),
        })
        .collect();
    format!(
        "user={} host={} dbname={}{}",
        config.get_user().unwrap_or_default(),
        hosts.join(","),
        config.get_dbname().unwrap_or_default(),
        if config.get_password().is_some() { " password=(set)" } else { "" }
    )
}
