//! The file itself: found, read, compared with what the commands take.

use super::{SECTIONS, first_line, may_be_set};
use crate::cli::Cli;
use crate::error::{Error, Result};
use clap::{Arg, ArgAction, Command, CommandFactory};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where it is looked for; the first there is.
const PLACES: [&str; 2] = ["pulso.toml", "/etc/pulso/pulso.toml"];

struct Entry {
    values: Vec<String>,
    line: usize,
}

/// What a file says. One that is not there says nothing.
#[derive(Default)]
pub struct File {
    path: Option<PathBuf>,
    /// By `key` or `section.key`, with underscores.
    entries: BTreeMap<String, Entry>,
    faults: Vec<String>,
}

impl File {
    /// The one that `--config` or PULSO_CONFIG names, else the first of its places. One that is named has to be there.
    pub fn find(args: &[OsString]) -> Result<Self> {
        let named = named(args).or_else(|| std::env::var_os("PULSO_CONFIG").filter(|path| !path.is_empty()));
        let path = match named {
            Some(path) => PathBuf::from(path),
            None => match PLACES.iter().map(PathBuf::from).find(|path| path.is_file()) {
                Some(path) => path,
                None => return Ok(Self::default()),
            },
        };
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Error::usage(format!("{} cannot be read: {error}", path.display())))?;
        Ok(Self::read(&path, &text))
    }

    fn read(path: &Path, text: &str) -> Self {
        let mut this = Self { path: Some(path.to_owned()), ..Self::default() };
        let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
        let table = match DeTable::parse(text) {
            Ok(table) => table,
            Err(error) => {
                // Not the error's own picture of the line: a password may be in it.
                let at = error.span().map_or(1, |span| line(span.start));
                this.faults.push(format!("line {at}: {}", error.message()));
                return this;
            }
        };
        let command = Cli::command();
        for (key, value) in table.get_ref() {
            match value.get_ref() {
                DeValue::Table(section) => {
                    let name = key.get_ref().as_ref();
                    if !SECTIONS.contains(&name) {
                        this.unknown(line(key.span().start), "section", name, SECTIONS.iter().map(|s| (*s).to_owned()));
                        continue;
                    }
                    let Some(of_command) = command.find_subcommand(name) else { continue };
                    for (key, value) in section {
                        this.take(of_command, Some(name), key.get_ref(), value, line(key.span().start));
                    }
                }
                _ => this.take(&command, None, key.get_ref(), value, line(key.span().start)),
            }
        }
        this
    }

    fn take(&mut self, command: &Command, section: Option<&str>, key: &str, value: &Spanned<DeValue<'_>>, line: usize) {
        let full = section.map_or_else(|| key.to_owned(), |section| format!("{section}.{key}")).replace('-', "_");
        let settable = |arg: &&Arg| may_be_set(arg);
        let Some(arg) = command.get_arguments().filter(settable).find(|arg| key_of(arg) == key.replace('-', "_"))
        else {
            let mut known: Vec<String> = command.get_arguments().filter(settable).map(key_of).collect();
            if section.is_none() {
                known.extend(SECTIONS.iter().map(|section| format!("[{section}]")));
            }
            return self.unknown(line, "key", &full, known.into_iter());
        };
        let values = match texts(value.get_ref()) {
            Some(values) => values,
            None => {
                return self
                    .faults
                    .push(format!("line {line}: {full} has to be text, a number, true or false, or a list of these"));
            }
        };
        if values.len() > 1 && !matches!(arg.get_action(), ArgAction::Append) && arg.get_value_delimiter().is_none() {
            return self.faults.push(format!("line {line}: {full} takes one value, not {}", values.len()));
        }
        if let Err(fault) = reads(arg, section, &values) {
            return self.faults.push(format!("line {line}: {full}: {fault}"));
        }
        self.entries.insert(full, Entry { values, line });
    }

    fn unknown(&mut self, line: usize, what: &str, name: &str, known: impl Iterator<Item = String>) {
        let last = name.rsplit('.').next().unwrap_or(name);
        let near = known
            .map(|other| (strsim::jaro_winkler(last, other.trim_matches(['[', ']'])), other))
            .filter(|(likeness, _)| *likeness > 0.75)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let hint = near.map_or_else(String::new, |(_, other)| format!("; is it {other}?"));
        self.faults.push(format!("line {line}: there is no {what} {name}{hint}"));
    }

    /// What it says as defaults of the commands.
    pub fn defaults(&self, mut command: Command) -> Command {
        for (key, entry) in &self.entries {
            let values = entry.values.clone();
            let set = |arg: Arg| match arg.get_action() {
                ArgAction::SetTrue => arg.default_value(values.concat()),
                // Help shows defaults.
                _ if arg.is_hide_env_values_set() => arg.default_values(values).hide_default_value(true),
                _ => arg.default_values(values),
            };
            let (section, name) = key.split_once('.').unwrap_or(("", key));
            let of = if section.is_empty() { Some(&command) } else { command.find_subcommand(section) };
            let arg = of.and_then(|of| of.get_arguments().find(|arg| key_of(arg) == name));
            let Some(id) = arg.map(|arg| arg.get_id().clone()) else { continue };
            command = match section {
                "" => command.mut_arg(id, set),
                _ => command.mut_subcommand(section, |of| of.mut_arg(id, set)),
            };
        }
        command
    }

    pub fn faults(&self) -> Vec<String> {
        self.faults.clone()
    }

    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    pub fn name(&self) -> String {
        self.path.as_ref().map_or_else(|| "no pulso.toml".to_owned(), |path| path.display().to_string())
    }

    pub fn line_of(&self, key: &str) -> Option<usize> {
        self.entries.get(key).map(|entry| entry.line)
    }
}

fn key_of(arg: &Arg) -> String {
    arg.get_long().unwrap_or_default().replace('-', "_")
}

fn named(args: &[OsString]) -> Option<OsString> {
    let mut args = args.iter().skip(1);
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--") => return None,
            Some("--config") => return args.next().cloned(),
            Some(text) if text.starts_with("--config=") => return text.split_once('=').map(|(_, path)| path.into()),
            _ => {}
        }
    }
    None
}

fn texts(value: &DeValue<'_>) -> Option<Vec<String>> {
    Some(vec![match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.as_str().replace('_', ""),
        DeValue::Float(number) => number.as_str().replace('_', ""),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Array(items) => {
            let all: Option<Vec<Vec<String>>> = items.iter().map(|item| texts(item.get_ref())).collect();
            return all.map(|all| all.concat());
        }
        _ => return None,
    }])
}

/// Whether the setting takes it, by the parser of its flag.
fn reads(arg: &Arg, section: Option<&str>, values: &[String]) -> Result<(), String> {
    let long = arg.get_long().unwrap_or_default();
    let mut args = vec!["pulso".to_owned(), section.unwrap_or("openapi").to_owned()];
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return match values {
            [one] if one == "true" || one == "false" => Ok(()),
            _ => Err("has to be true or false".to_owned()),
        };
    }
    // Secrets are text of any kind; an error would show them.
    if arg.is_hide_env_values_set() {
        return Ok(());
    }
    args.extend(values.iter().map(|value| format!("--{long}={value}")));
    Cli::command().try_get_matches_from(args).map(drop).map_err(|error| first_line(&error))
}

#[cfg(test)]
mod tests {
    use super::super::NEVER;
    use super::*;

    fn faults(text: &str) -> String {
        File::read(Path::new("pulso.toml"), text).faults.join("\n")
    }

    #[test]
    fn a_good_file_has_no_faults_and_becomes_defaults() {
        let text = "database_url = 'postgresql://u:p@h/d'\n[serve]\npool-size = 12\ncors_origin = ['https://a.example', 'https://b.example']\nno_jobs = true\n[doctor]\nconnections = 0.5\n";
        let file = File::read(Path::new("pulso.toml"), text);
        assert!(file.faults.is_empty(), "{:?}", file.faults);
        assert_eq!(file.line_of("serve.pool_size"), Some(3));
        let matches = file.defaults(Cli::command()).try_get_matches_from(["pulso", "serve"]).expect("it parses");
        let (_, serve) = matches.subcommand().expect("serve");
        assert_eq!(serve.get_one::<u16>("pool_size"), Some(&12));
        assert!(serve.get_flag("no_jobs"));
        assert_eq!(serve.get_raw("cors_origins").expect("origins").count(), 2);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_a_near_one() {
        assert_eq!(faults("[serve]\npol_size = 3"), "line 2: there is no key serve.pol_size; is it pool_size?");
        assert_eq!(faults("databaze_url = 'x'"), "line 1: there is no key databaze_url; is it database_url?");
        assert_eq!(faults("[server]\na = 1"), "line 1: there is no section server; is it serve?");
        assert_eq!(faults("zzz = 1"), "line 1: there is no key zzz");
        assert!(faults("[serve]\n\npool_size = 0").starts_with("line 3: serve.pool_size: invalid value '0'"));
        assert!(faults("[serve]\nlisten = 'nowhere'").contains("invalid value 'nowhere' for '--listen"));
        assert_eq!(faults("[serve]\nno_jobs = 'perhaps'"), "line 2: serve.no_jobs: has to be true or false");
        assert_eq!(faults("[serve]\npool_size = [1, 2]"), "line 2: serve.pool_size takes one value, not 2");
        assert!(faults("[serve]\npool_size = { a = 1 }").contains("has to be text"));
        for never in NEVER {
            assert!(faults(&format!("{never} = true")).contains("there is no key"), "{never}");
        }
    }

    #[test]
    fn no_fault_shows_a_secret() {
        for text in [
            "database_url = 'postgresql://u:hunter2@h'\nx",
            "database_url = \"hunter2\nz = 1",
            "database_url = ['hunter2', 'hunter2']",
        ] {
            let said = faults(text);
            assert!(!said.is_empty() && !said.contains("hunter2"), "{said}");
        }
    }
}
