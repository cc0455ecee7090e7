//! Who computes: the extension, in the sale's transaction; or, where it cannot be installed, continuous aggregates of
//! TimescaleDB, or materialized views.

use crate::error::{Error, Result};
use serde::Serialize;
use std::fmt;
use tokio_postgres::Client;

const PLAIN_ENGINE: &str = include_str!("../../sql/plain/engine.sql");
/// Over the other: what no continuous aggregate can keep is a materialized view.
const TIMESCALE_ENGINE: &str =
    concat!(include_str!("../../sql/plain/engine.sql"), "\n", include_str!("../../sql/timescale/engine.sql"));

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Rollups, fresh at commit
    Extension,
    /// Continuous aggregates of TimescaleDB's Community edition, and materialized views
    Timescale,
    /// Materialized views, refreshed by `pulso serve` about once a minute
    Plain,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Extension => "extension — rollups, fresh at commit",
            Self::Timescale => {
                "timescale — continuous aggregates, new sales at once, changes of older ones as of the last refresh"
            }
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
                        to_regclass('pulso.aggregate') is not null,
                        exists (select from pg_extension where extname = 'pulso'),
                        exists (select from pg_available_extensions where name = 'pulso')",
                &[],
            )
            .await?;
        let (plain, aggregates, extension): (bool, bool, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let available: bool = row.try_get(3)?;
        let there = match (aggregates, plain, extension) {
            (true, ..) => Some(Tier::Timescale),
            (_, true, _) => Some(Tier::Plain),
            (.., extension) => extension.then_some(Tier::Extension),
        };
        match (there, self.asked) {
            (Some(there), Some(asked)) if there != asked => {
                let (there, asked) = (there.word(), asked.word());
                Err(Error::usage(format!("this database is on tier {there}, not {asked}")).with_hint(format!(
                    "Undo service, reports, rollups and core (and drop an extension pulso that stays), then: pulso migrate up --tier {asked}"
                )))
            }
            (Some(there), _) => Ok(there),
            (None, Some(asked)) => Ok(asked),
            (None, None) if self.lower && !available => {
                Ok(if community(client).await? { Tier::Timescale } else { Tier::Plain })
            }
            (None, None) => Ok(Tier::Extension),
        }
    }
}

/// Whether TimescaleDB is in this database, and of the edition that has continuous aggregates.
pub async fn community(client: &Client) -> Result<bool> {
    let sql = "select coalesce(current_setting('timescaledb.license', true), '') = 'timescale'
                      and exists (select from pg_extension where extname = 'timescaledb')";
    Ok(client.query_one(sql, &[]).await?.try_get(0)?)
}

impl Tier {
    fn word(self) -> &'static str {
        match self {
            Self::Extension => "extension",
            Self::Timescale => "timescale",
            Self::Plain => "plain",
        }
    }

    /// What pack core installs instead of the extension.
    pub fn engine(self) -> Option<&'static str> {
        match self {
            Self::Extension => None,
            Self::Timescale => Some(TIMESCALE_ENGINE),
            Self::Plain => Some(PLAIN_ENGINE),
        }
    }
}
