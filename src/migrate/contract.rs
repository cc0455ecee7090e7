//! The contract's views and functions: re-applied, all in one transaction, when the text of any has changed.

use super::log;
use super::packs::CONTRACT;
use super::run::{Runner, Stop};
use crate::db;
use crate::error::Result;
use std::time::Instant;
use tokio_postgres::Client;

const TABLE: &str = "
  create table if not exists pulso.contract (
    file text primary key,
    checksum text not null,
    applied_at timestamptz not null default now()
  );
  comment on table pulso.contract is 'Contract files and the checksum of the text last applied.'";

const CHANGED: &str = "
  select t.file
    from unnest($1::text[], $2::text[]) as t (file, body)
    left join pulso.contract c on c.file = t.file
   where c.checksum is distinct from md5(t.body)
   order by t.file";

/// Files whose text differs from what the database has; changes nothing.
pub async fn pending(client: &Client) -> Result<Vec<String>> {
    let (files, texts): (Vec<&str>, Vec<&str>) = CONTRACT.iter().copied().unzip();
    if !exists(client).await? {
        return Ok(files.into_iter().map(str::to_owned).collect());
    }
    let rows = client.query(CHANGED, &[&files, &texts]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

pub async fn exists(client: &Client) -> Result<bool> {
    Ok(db::has(client, "pulso.contract").await?)
}

/// What puts the condition on shops into each object of schema analytics that has none yet.
pub const SCOPE: &str = "select pulso.scope_contract()";

/// Objects of the contract, of this role's own, that show every role every shop.
pub async fn unscoped(client: &Client) -> Result<Vec<String>> {
    if !db::has(client, "pulso.unscoped").await? {
        return Ok(Vec::new());
    }
    let sql = "
      select format('%I.%I', u.schema, u.name)
        from pulso.unscoped u join pg_class c on c.oid = u.relation
       where pg_has_role(c.relowner, 'usage') and c.relkind <> 'f'
         and (to_regclass('pulso.contract') is not null)
       order by 1";
    Ok(client.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// Brings them under the condition.
pub async fn scope(runner: &mut Runner<'_>) -> Result<(), Stop> {
    let names = unscoped(runner.client).await?;
    if names.is_empty() {
        return Ok(());
    }
    let what = format!("scope of {}", names.join(", "));
    let begun = Instant::now();
    let entry = log::begin(runner.client, "contract", &what, "up", None).await?;
    let outcome = runner.bite(SCOPE, &what).await;
    runner.note(entry, &format!("contract {what}"), begun, outcome).await
}

/// All files as one text.
pub fn script() -> String {
    let files: String = CONTRACT.iter().map(|(_, text)| *text).collect();
    format!("{files}{SCOPE};\n")
}

/// Applies every file if any has changed, and notes each changed one.
pub async fn apply(runner: &mut Runner<'_>) -> Result<(), Stop> {
    let changed = pending(runner.client).await?;
    if changed.is_empty() {
        return Ok(());
    }
    let begun = Instant::now();
    let entry = log::begin(runner.client, "contract", &changed.join(" "), "up", None).await?;
    let mut tries = 0;
    let outcome = loop {
        match all(runner).await {
            Err(stop) if runner.again(&stop, &mut tries, "contract").await? => (),
            outcome => break outcome,
        }
    };
    runner.note(entry, &format!("contract {}", changed.join(", ")), begun, outcome).await
}

async fn all(runner: &mut Runner<'_>) -> Result<(), Stop> {
    let transaction = runner.client.transaction().await?;
    transaction.batch_execute(TABLE).await?;
    for (file, text) in CONTRACT {
        let applied = transaction.batch_execute(text).await;
        applied.map_err(|error| Stop::from(error).context(format!("contract {file}")))?;
        transaction
            .execute(
                "insert into pulso.contract (file, checksum) values ($1, md5($2))
                 on conflict (file) do update set checksum = excluded.checksum, applied_at = now()",
                &[file, text],
            )
            .await?;
    }
    // Before anybody sees the new texts, which have no condition.
    transaction.batch_execute(SCOPE).await?;
    transaction.commit().await?;
    Ok(())
}
