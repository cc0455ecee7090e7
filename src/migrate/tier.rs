//! Who computes: the extension, in the sale's transaction; or, where none can be installed, materialized views.

use crate::error::{Error, Result};
use serde::Serialize;
use std::fmt;
use tokio_postgres::Client;

/// What pack core installs on the tier plain instead of the extension.
pub const PLAIN_ENGINE: &str = include_str!("../../sql/plain/engine.sql");

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Rollups, fresh at commit
    Extension,
    /// Materialized views, refreshed by `pulso serve` about once a minute
    Plain,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Extension => "extension — rollups, fresh at commit",
            Self::Plain => "plain — materialized views, refreshed by `pulso serve`; nothing to install",
        })
    }
}

/// Which tier a command is to work on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish {
    pub asked: Option<Tier>,
    /// Whether a server without the extension's files is taken as it is; else that stands in the way.
    pub lower: bool,
}

impl Wish {
    /// The tier of this database: what it has, what is asked for, what the server can do.
    pub async fn tier(&self, client: &Client) -> Result<Tier> {
        let row = client
            .query_one(
                "select to_regclass('pulso.plain_rollup') is not null,
                        exists (select from pg_extension where extname = 'pulso'),
                        exists (select from pg_available_extensions where name = 'pulso')",
                &[],
            )
            .await?;
        let (plain, extension, available): (bool, bool, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let there = if plain { Some(Tier::Plain) } else { extension.then_some(Tier::Extension) };
        match (there, self.asked) {
            (Some(there), Some(asked)) if there != asked => {
                let (there, asked) = (there.word(), asked.word());
                Err(Error::usage(format!("this database is on tier {there}, not {asked}")).with_hint(format!(
                    "Undo service, reports, rollups and core (and drop an extension pulso that stays), then: pulso migrate up --tier {asked}"
                )))
            }
            (Some(there), _) => Ok(there),
            (None, Some(asked)) => Ok(asked),
            (None, None) if self.lower && !available => Ok(Tier::Plain),
            (None, None) => Ok(Tier::Extension),
        }
    }
}

impl Tier {
    fn word(self) -> &'static str {
        match self {
            Self::Extension => "extension",
            Self::Plain => "plain",
        }
    }
}
