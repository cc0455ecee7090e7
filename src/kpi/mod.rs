//! `pulso kpi`: the dashboard in the terminal, from the same reads as the HTTP service.

mod format;
mod screen;
mod view;

pub use format::Lang;

use crate::db::Server;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::read::{self, Dashboard, Pool, Pooling, ReadError, Reader, Store};
use crate::serve::params;
use jiff::civil::Date;
use screen::{Screen, emit, page};
use std::future::Future;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use uuid::Uuid;
pub use view::Style;

/// More shops than this are not read for one screen.
const MAX_STORES: usize = 100;

#[derive(Debug, Clone, clap::Args)]
pub struct KpiArgs {
    /// One shop, by its id, its name or an unmistakable part of its name; all of them by default
    #[arg(long, value_name = "NAME|ID")]
    store: Option<String>,

    /// Business date [default: each shop's today]
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = params::day)]
    date: Option<Date>,

    /// Show it again and again, every so many seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = clap::value_parser!(u16).range(1..))]
    watch: Option<u16>,

    /// Print what the HTTP service answers: one dashboard for a named or only shop, else a list of them
    #[arg(long)]
    json: bool,

    /// Language [default: that of LANG, es unless it is en]
    #[arg(long, value_enum)]
    lang: Option<Lang>,
}

pub async fn run(server: &Server, args: KpiArgs) -> Result<ExitCode> {
    let pool = read::pool(server.url(), 1, Pooling::Session)?;
    let style = style(args.lang.unwrap_or_else(Lang::from_env));
    let choice = Choice { store: args.store, date: args.date };
    let Some(seconds) = args.watch else {
        let days = choice.read(&pool).await?;
        let text = if args.json { json(&days)? } else { page(&choice.lines(&days, style)) };
        emit(&text)?;
        return Ok(ExitCode::SUCCESS);
    };
    // What is wrong with the question is told at once, not on every frame.
    choice.read(&pool).await?;
    let stop = interrupt::token();
    let every = Duration::from_secs(seconds.into());
    if args.json {
        let lines = async {
            loop {
                if !emit(&json(&choice.read(&pool).await?)?)? {
                    return Ok::<(), Error>(());
                }
                tokio::time::sleep(every).await;
            }
        };
        tokio::select! { outcome = lines => outcome?, () = stop.cancelled() => {} }
    } else {
        watch(&pool, &choice, style, every, stop.cancelled(), Vec::new).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Colours are for people: on a terminal, and not where `NO_COLOR` is set.
fn color() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// How this terminal is spoken to.
pub fn style(lang: Lang) -> Style {
    Style { lang, color: color() }
}

/// Redraws until `until`, under the lines of `header`. A database that is away is said so, and tried again.
pub async fn watch(
    pool: &Pool,
    choice: &Choice,
    style: Style,
    every: Duration,
    until: impl Future<Output = ()>,
    header: impl Fn() -> Vec<String>,
) -> Result<()> {
    let mut screen = Screen::open();
    let frames = async {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = Vec::new();
        loop {
            ticks.tick().await;
            let began = Instant::now();
            let mut lines = header();
            match choice.read(pool).await {
                Ok(days) => {
                    last = choice.lines(&days, style);
                    lines.extend(last.iter().cloned());
                    lines.extend([String::new(), freshness(began.elapsed(), style.lang)]);
                }
                Err(error) => {
                    lines.extend(last.iter().cloned());
                    let retrying =
                        style.lang.of("sin datos nuevos; se sigue intentando", "no new figures; still trying");
                    lines.extend([String::new(), format!("{retrying}: {error}")]);
                }
            }
            if !screen.draw(lines)? {
                return Ok(());
            }
        }
    };
    tokio::select! {
        outcome = frames => outcome,
        () = until => Ok(()),
    }
}

fn freshness(took: Duration, lang: Lang) -> String {
    let micros = took.as_micros();
    let ms = lang.number(&format!("{}.{:03}", micros / 1000, micros % 1000), 1);
    let now = jiff::Zoned::now().strftime("%H:%M:%S").to_string();
    match lang {
        Lang::Es => format!("leído en {ms} ms a las {now} · Ctrl-C termina"),
        Lang::En => format!("read in {ms} ms at {now} · Ctrl-C ends"),
    }
}

fn json(days: &[Dashboard]) -> Result<String> {
    let text = match days {
        [day] => serde_json::to_string(day),
        days => serde_json::to_string(days),
    };
    text.map(|mut text| {
        text.push('\n');
        text
    })
    .map_err(|error| Error::failed(error.to_string()))
}

/// Whose dashboard, and of which day.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    pub store: Option<String>,
    pub date: Option<Date>,
}

impl Choice {
    async fn read(&self, pool: &Pool) -> Result<Vec<Dashboard>> {
        let client = pool.get().await.map_err(ReadError::from)?;
        let mut days = Vec::new();
        for id in self.stores(&client).await? {
            days.push(read::dashboard(&client, id, self.date).await?);
        }
        Ok(days)
    }

    async fn stores(&self, client: &Reader) -> Result<Vec<Uuid>> {
        if let Some(id) = self.store.as_deref().and_then(|text| params::uuid(text).ok()) {
            return Ok(vec![id]);
        }
        let mut all: Vec<Store> = Vec::new();
        let mut after = None;
        loop {
            let (page, next) = read::stores(client, &None, after, 500).await?;
            all.extend(page);
            after = next;
            if after.is_none() {
                break;
            }
        }
        let Some(name) = &self.store else {
            if all.is_empty() {
                return Err(Error::failed("there are no stores yet")
                    .with_hint("`pulso demo` makes some and sells in them; `pulso load` loads a public data set."));
            }
            return Ok(all.iter().take(MAX_STORES).map(|store| store.id).collect());
        };
        find(name, &all).map(|store| vec![store.id])
    }

    fn lines(&self, days: &[Dashboard], style: Style) -> Vec<String> {
        if let [day] = days {
            return view::one(day, style);
        }
        let mut lines = view::several(days, style);
        let hint = style
            .lang
            .of("Una sola, con todo: pulso kpi --store NOMBRE", "One of them in full: pulso kpi --store NAME");
        lines.extend([String::new(), hint.to_owned()]);
        lines
    }
}

/// By the whole name, else by a part that only one shop has; case does not count.
fn find<'a>(name: &str, stores: &'a [Store]) -> Result<&'a Store> {
    let wanted = name.to_lowercase();
    if let Some(store) = stores.iter().find(|store| store.name.to_lowercase() == wanted) {
        return Ok(store);
    }
    let alike: Vec<&Store> = stores.iter().filter(|store| store.name.to_lowercase().contains(&wanted)).collect();
    match alike.as_slice() {
        [store] => Ok(store),
        [] => Err(Error::usage(format!("there is no store {name:?}"))
            .with_hint(format!("The stores are: {}", names(stores.iter())))),
        several => Err(Error::usage(format!("{name:?} fits several stores"))
            .with_hint(format!("Say more of the name: {}", names(several.iter().copied())))),
    }
}

fn names<'a>(stores: impl Iterator<Item = &'a Store>) -> String {
    let mut names: Vec<String> = stores.take(21).map(|store| format::plain(&store.name, 60)).collect();
    if names.len() > 20 {
        names[20] = "…".to_owned();
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(name: &str) -> Store {
        Store {
            id: Uuid::new_v4(),
            name: name.to_owned(),
            time_zone: "America/Caracas".to_owned(),
            day_start: "00:00".to_owned(),
            business_date: jiff::civil::date(2026, 7, 30),
        }
    }

    #[test]
    fn a_store_is_found_by_its_name_or_an_unmistakable_part() {
        let stores = [store("Bar"), store("Bar Central"), store("Abasto")];
        assert_eq!(find("bar", &stores).map(|s| s.name.as_str()).ok(), Some("Bar"));
        assert_eq!(find("CENTRAL", &stores).map(|s| s.name.as_str()).ok(), Some("Bar Central"));
        assert!(find("ba", &stores).is_err());
        assert!(find("x", &stores).is_err());
    }
}
