//! Compares each rollup with its query, and says so where they differ.

use crate::db;
use crate::error::{Error, Result};
use tokio_postgres::error::SqlState;

/// Groups that differ are a fault of the engine, never of the shop: they go to the log as warnings.
pub async fn rollups(url: &str) -> Result<String> {
    let client = db::connect(url).await?;
    client.batch_execute("set application_name = 'pulso verify'").await?;
    let rows = match client.query("select name::text from pulso.rollups order by 1", &[]).await {
        Ok(rows) => rows,
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
            return Ok("there are no rollups to verify".to_owned());
        }
        Err(error) => return Err(error.into()),
    };
    let (mut exact, mut wrong) = (0_u32, 0_u32);
    for row in rows {
        let name: String = row.try_get(0)?;
        match client.query_one("select pulso.verify($1)", &[&name]).await {
            Ok(row) => match row.try_get::<_, i64>(0)? {
                0 => exact += 1,
                groups => {
                    wrong += 1;
                    tracing::warn!(
                        rollup = name,
                        groups,
                        "a rollup differs from its query; `select pulso.repair(name)` mends it"
                    );
                }
            },
            Err(error) => {
                wrong += 1;
                let error = Error::from(error);
                tracing::warn!(rollup = name, %error, "a rollup cannot be verified");
            }
        }
    }
    Ok(format!("{exact} rollups equal their queries, {wrong} do not or could not be compared"))
}
