//! The whole book in one transaction, by COPY.

use super::book::{Book, Sale, rate};
use super::{Loaded, Options, already_there, catalogue, show_lines};
use crate::error::Result;
use futures_util::pin_mut;
use std::pin::Pin;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls, Transaction};
use uuid::Uuid;

/// How often, in lines, the progress is shown and an interruption noticed.
const STEP: u64 = 4096;

// local_time and business_date are the trigger's.
const COPY_SALES: &str = "
copy public.sales (id, store_id, customer_id, number, kind, sold_at, rate, totals, payment)
from stdin with (format binary)";
const SALE_TYPES: [Type; 9] = [
    Type::UUID,
    Type::UUID,
    Type::UUID,
    Type::TEXT,
    Type::TEXT,
    Type::TIMESTAMPTZ,
    Type::NUMERIC,
    Type::JSONB,
    Type::JSONB,
];

const COPY_LINES: &str = "
copy public.sale_items (id, sale_id, line_no, product_id, qty, unit_price_bs, unit_price_usd)
from stdin with (format binary)";
const LINE_TYPES: [Type; 7] =
    [Type::UUID, Type::UUID, Type::INT4, Type::UUID, Type::NUMERIC, Type::NUMERIC, Type::NUMERIC];

pub async fn write(client: &mut Client, book: &Book, options: &Options) -> Result<Loaded> {
    let transaction = client.transaction().await?;
    // It waits for another bulk load to end; what that loaded is there then.
    catalogue::write(&transaction, book).await?;
    let there = already_there(&transaction, book).await?;
    let mut sales: Vec<&Sale> = book.sales.iter().filter(|sale| !there.contains(&sale.id)).collect();
    // In the order of the indexes; the order of the file is in line_no.
    sales.sort_unstable_by_key(|sale| sale.id);
    let lines = sales.iter().map(|sale| sale.lines.len()).sum();
    show_lines(&options.progress, "Loading", lines as u64);
    if !(copy_sales(&transaction, book, &sales, options).await?
        && copy_lines(&transaction, book, &sales, options).await?)
    {
        transaction.rollback().await?;
        return Ok(Loaded { interrupted: true, ..Loaded::default() });
    }
    transaction.commit().await?;
    if !sales.is_empty() {
        // The planner would take the tables for empty until autovacuum comes by.
        client.batch_execute("analyze public.sales, public.sale_items, public.products").await?;
    }
    Ok(Loaded { sales: sales.len(), lines, skipped: there.len(), ..Loaded::default() })
}

/// False when interrupted; so with the lines.
async fn copy_sales(transaction: &Transaction<'_>, book: &Book, sales: &[&Sale], options: &Options) -> Result<bool> {
    let writer = BinaryCopyInWriter::new(transaction.copy_in(COPY_SALES).await?, &SALE_TYPES);
    pin_mut!(writer);
    let payment = super::payment();
    for sale in sales {
        let store = book.stores[sale.store].id;
        let customer: Option<Uuid> = sale.customer.map(|at| book.customers[at].id);
        let kind = sale.kind.as_str();
        writer
            .as_mut()
            .write(&[
                &sale.id,
                &store,
                &customer,
                &sale.number,
                &kind,
                &sale.sold_at,
                &rate(),
                &sale.totals().to_jsonb(),
                &payment,
            ])
            .await?;
    }
    finish(writer, transaction, options).await
}

async fn copy_lines(transaction: &Transaction<'_>, book: &Book, sales: &[&Sale], options: &Options) -> Result<bool> {
    let writer = BinaryCopyInWriter::new(transaction.copy_in(COPY_LINES).await?, &LINE_TYPES);
    pin_mut!(writer);
    let mut done = 0;
    for sale in sales {
        for (line_no, line) in (1_i32..).zip(&sale.lines) {
            let (id, product, price_bs) = (sale.line_id(line_no), book.products[line.product].id, line.price * rate());
            writer.as_mut().write(&[&id, &sale.id, &line_no, &product, &line.qty, &price_bs, &line.price]).await?;
            done += 1;
            if done % STEP == 0 {
                options.progress.set_position(done);
                if options.cancel.is_cancelled() {
                    // Dropped unfinished, the COPY fails; the transaction is rolled back.
                    return Ok(false);
                }
            }
        }
    }
    options.progress.set_message("Checking");
    finish(writer, transaction, options).await
}

/// The end of a COPY is where the server checks the foreign keys, for as long as it took the rows.
async fn finish(
    writer: Pin<&mut BinaryCopyInWriter>,
    transaction: &Transaction<'_>,
    options: &Options,
) -> Result<bool> {
    tokio::select! {
        finished = writer.finish() => {
            finished?;
            Ok(true)
        }
        () = options.cancel.cancelled() => {
            transaction.cancel_token().cancel_query(NoTls).await?;
            Ok(false)
        }
    }
}
