//! The contract's views and functions: re-applied, all in one transaction, when the text of any has changed.

use super::packs::CONTRACT;
use crate::error::{Error, Result};
use tokio_postgres::Client;

const CHANGED: &str = "
  select t.file
    from unnest($1::text[], $2::text[]) as t (file, body)
    left join pulso.contract c on c.file = t.file
   where c.checksum is distinct from md5(t.body)
   order by t.file";

/// Files whose text differs from what the database has; changes nothing.
pub async fn pending(client: &Client) -> Result<Vec<String>> {
    let exists: bool = client.query_one("select to_regclass('pulso.contract') is not null", &[]).await?.get(0);
    let (files, texts): (Vec<&str>, Vec<&str>) = CONTRACT.iter().copied().unzip();
    if !exists {
        return Ok(files.into_iter().map(str::to_owned).collect());
    }
    let rows = client.query(CHANGED, &[&files, &texts]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Applies every file if any has changed; returns the changed ones.
pub async fn apply(client: &mut Client) -> Result<Vec<String>> {
    client
        .batch_execute(
            "create table if not exists pulso.contract (
               file text primary key,
               checksum text not null,
               applied_at timestamptz not null default now()
             );
             comment on table pulso.contract is 'Contract files and the checksum of the text last applied.'",
        )
        .await?;
    let changed = pending(client).await?;
    if changed.is_empty() {
        return Ok(changed);
    }
    let transaction = client.transaction().await?;
    for (file, text) in CONTRACT {
        transaction
            .batch_execute(text)
            .await
            .map_err(|error| Error::from(error).context(format!("contract {file}")))?;
        transaction
            .execute(
                "insert into pulso.contract (file, checksum) values ($1, md5($2))
                 on conflict (file) do update set checksum = excluded.checksum, applied_at = now()",
                &[&file, &text],
            )
            .await?;
    }
    transaction.commit().await?;
    Ok(changed.into_iter().map(|file| format!("contract {file}")).collect())
}
