//! A transaction per invoice, as a till sells.

use super::book::{Book, Sale, rate};
use super::{Loaded, Options, already_there, catalogue, show_lines};
use crate::error::Result;
use rust_decimal::Decimal;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

/// Inserts nothing where another loader was faster. Without naming the key: of two at the same instant, the slower one
/// may meet the other's number before its id.
const INSERT_SALE: &str = "
insert into public.sales (id, store_id, customer_id, number, kind, sold_at, rate, totals, payment)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    on conflict do nothing";

const INSERT_LINES: &str = "
insert into public.sale_items (id, sale_id, line_no, product_id, qty, unit_price_bs, unit_price_usd)
select n.id, $1, n.line_no, n.product_id, n.qty, n.price_bs, n.price_usd
  from unnest($2::uuid[], $3::int[], $4::uuid[], $5::numeric[], $6::numeric[], $7::numeric[])
       as n (id, line_no, product_id, qty, price_bs, price_usd)
 order by n.line_no";

pub async fn write(client: &mut Client, book: &Book, options: &Options) -> Result<Loaded> {
    let transaction = client.transaction().await?;
    catalogue::write(&transaction, book).await?;
    transaction.commit().await?;

    let there = already_there(client, book).await?;
    let mut loaded = Loaded { skipped: there.len(), ..Loaded::default() };
    let statements = (client.prepare(INSERT_SALE).await?, client.prepare(INSERT_LINES).await?);
    show_lines(&options.progress, "Loading", book.line_count() as u64);
    for sale in &book.sales {
        if options.cancel.is_cancelled() {
            loaded.interrupted = true;
            break;
        }
        options.progress.inc(sale.lines.len() as u64);
        if there.contains(&sale.id) {
            continue;
        }
        if sell(client, &statements, book, sale).await? {
            loaded.sales += 1;
            loaded.lines += sale.lines.len();
        } else {
            loaded.skipped += 1;
        }
    }
    Ok(loaded)
}

/// One ticket. False when it was there already.
async fn sell(
    client: &mut Client,
    (insert_sale, insert_lines): &(Statement, Statement),
    book: &Book,
    sale: &Sale,
) -> Result<bool> {
    let transaction = client.transaction().await?;
    let store = book.stores[sale.store].id;
    let customer: Option<Uuid> = sale.customer.map(|at| book.customers[at].id);
    let kind = sale.kind.as_str();
    let inserted = transaction
        .execute(
            insert_sale,
            &[
                &sale.id,
                &store,
                &customer,
                &sale.number,
                &kind,
                &sale.sold_at,
                &rate(),
                &sale.totals().to_jsonb(),
                &super::payment(),
            ],
        )
        .await?;
    if inserted == 0 {
        return Ok(false);
    }
    let line_nos: Vec<i32> = (1_i32..).zip(&sale.lines).map(|(line_no, _)| line_no).collect();
    let ids: Vec<Uuid> = line_nos.iter().map(|line_no| sale.line_id(*line_no)).collect();
    let products: Vec<Uuid> = sale.lines.iter().map(|line| book.products[line.product].id).collect();
    let qtys: Vec<Decimal> = sale.lines.iter().map(|line| line.qty).collect();
    let prices_bs: Vec<Decimal> = sale.lines.iter().map(|line| line.price * rate()).collect();
    let prices_usd: Vec<Decimal> = sale.lines.iter().map(|line| line.price).collect();
    transaction.execute(insert_lines, &[&sale.id, &ids, &line_nos, &products, &qtys, &prices_bs, &prices_usd]).await?;
    transaction.commit().await?;
    Ok(true)
}
