//! What there is.

use crate::error::Result;
use comfy_table::{CellAlignment, Table, presets};
use indicatif::HumanBytes;
use serde_json::{Value, json};
use std::process::ExitCode;
use tokio_postgres::Client;

const ROLLUPS: &str = "
  select r.name, r.source, r.live, r.reason, r.groups_estimate, r.pending_deltas,
         r.base_bytes + r.delta_bytes as bytes, to_char(r.folded_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
         r.replaces, p.blocks_done::float8 / nullif(p.blocks_total, 0)
    from pulso.rollups r left join pulso.progress p on p.name = r.name
   order by r.name";

pub async fn names(client: &Client) -> Result<Vec<String>> {
    let rows = client.query("select name from pulso.rollups where replaces is null order by 1", &[]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

pub async fn list(client: &Client, json: bool) -> Result<ExitCode> {
    let rows = client.query(ROLLUPS, &[]).await?;
    let mut items = Vec::new();
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["rollup", "source", "state", "groups", "pending", "size", "last folded"]);
    for row in &rows {
        let (name, source, live): (&str, &str, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let reason: Option<&str> = row.try_get(3)?;
        let (groups, pending): (i64, Option<i64>) = (row.try_get(4)?, row.try_get(5)?);
        let (bytes, folded_at): (i64, Option<&str>) = (row.try_get(6)?, row.try_get(7)?);
        let (replaces, done): (Option<&str>, Option<f64>) = (row.try_get(8)?, row.try_get(9)?);
        items.push(json!({
            "name": name, "source": source, "live": live, "reason": reason, "groups": groups, "pending": pending,
            "bytes": bytes, "folded_at": folded_at, "replaces": replaces, "building": done,
        }));
        let state = match (done, live) {
            (Some(done), _) => format!("building, {:.0} %", done * 100.0),
            (None, true) => "live".to_owned(),
            (None, false) => format!("runs its query: {}", reason.unwrap_or("no reason given")),
        };
        table.add_row([
            name,
            source,
            &state,
            &groups.to_string(),
            &pending.map_or_else(|| "?".to_owned(), |pending| pending.to_string()),
            &HumanBytes(bytes.unsigned_abs()).to_string(),
            folded_at.unwrap_or("never"),
        ]);
    }
    for column in 3..=5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if json {
        println!("{}", Value::Array(items));
    } else if rows.is_empty() {
        println!("there are no rollups; `pulso rollup create` makes one");
    } else {
        println!("{}", table.trim_fmt());
    }
    Ok(ExitCode::SUCCESS)
}
