//! Arguments: a query from the command line, a file or standard input; a name for a new view.

use crate::error::{Error, Result};
use clap::Args;
use std::io::Read;
use std::path::PathBuf;
use tokio_postgres::Client;

/// The longest query that is read.
const MAX_QUERY: u64 = 1024 * 1024;

#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct QueryArgs {
    /// The grouped SELECT that the view is to equal
    #[arg(long, value_name = "SQL")]
    query: Option<String>,

    /// A file with it; - is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl QueryArgs {
    pub fn read(&self) -> Result<String> {
        let Some(path) = &self.file else { return Ok(self.query.clone().unwrap_or_default()) };
        let context = |error: std::io::Error| {
            Error::usage(format!("{} cannot be read: {error}", path.display()))
                .with_hint("It is to hold one SELECT, as text in UTF-8.")
        };
        let mut text = String::new();
        if path.as_os_str() == "-" {
            std::io::stdin().take(MAX_QUERY).read_to_string(&mut text).map_err(context)?;
        } else {
            std::fs::File::open(path)
                .and_then(|file| file.take(MAX_QUERY).read_to_string(&mut text))
                .map_err(context)?;
        }
        Ok(text)
    }
}

/// The name for a new view; one without a schema goes where the session would put it.
pub async fn name_of(client: &Client, name: &str) -> Result<String> {
    let row = client
        .query_one(
            "select case cardinality(p) when 1 then format('%I.%I', current_schema(), p[1])
                                        when 2 then format('%I.%I', p[1], p[2]) end
               from (select parse_ident($1)) as parsed (p)",
            &[&name],
        )
        .await?;
    row.try_get::<_, Option<String>>(0)?
        .ok_or_else(|| Error::usage(format!("{name} is not a name for a view")).with_hint("Write it as schema.name."))
}
