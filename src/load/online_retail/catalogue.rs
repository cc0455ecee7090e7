//! Stores, products and customers of the book: written before its sales, in the same transaction.

use super::book::Book;
use crate::error::{Error, Result};
use tokio_postgres::Transaction;
use uuid::Uuid;

const TAKEN: &str = "
select 'store ' || s.name
  from public.stores s
  join unnest($1::uuid[], $2::text[]) as n (id, name) on n.name = s.name and n.id <> s.id
 union all
select 'customer ' || c.document_id
  from public.customers c
  join unnest($3::uuid[], $4::text[]) as n (id, document) on n.document = c.document_id and n.id <> c.id
 limit 1";

const STORES: &str = "
insert into public.stores (id, name, time_zone)
select n.id, n.name, 'UTC'
  from unnest($1::uuid[], $2::text[]) as n (id, name)
    on conflict do nothing";

const CUSTOMERS: &str = "
insert into public.customers (id, document_id, store_id)
select n.id, n.document, n.store
  from unnest($1::uuid[], $2::text[], $3::uuid[]) as n (id, document, store)
 order by n.id
    on conflict do nothing";

/// The latest description wins over one that an older file left.
const PRODUCTS: &str = "
insert into public.products as p (id, store_id, sku, name)
select n.id, n.store, n.sku, n.name
  from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) as n (id, store, sku, name)
 order by n.id
    on conflict (id) do update
       set name = excluded.name
     where p.name is distinct from excluded.name
       and excluded.name is not null";

/// One loader at a time writes here: the second waits, and finds it written. "retail" in ASCII.
const LOCK_KEY: i64 = 0x72_65_74_61_69_6c;

/// Writes what the sales of the book refer to.
pub async fn write(transaction: &Transaction<'_>, book: &Book) -> Result<()> {
    transaction.execute("select pg_advisory_xact_lock($1)", &[&LOCK_KEY]).await?;
    let used = Used::by(book);
    let stores: Vec<_> = pick(&book.stores, &used.stores);
    let ids: Vec<Uuid> = stores.iter().map(|store| store.id).collect();
    let names: Vec<&str> = stores.iter().map(|store| store.name.as_str()).collect();

    let customers: Vec<_> = pick(&book.customers, &used.customers);
    let customer_ids: Vec<Uuid> = customers.iter().map(|customer| customer.id).collect();
    let documents: Vec<&str> = customers.iter().map(|customer| customer.document.as_str()).collect();
    let homes: Vec<Uuid> = customers.iter().map(|customer| book.stores[customer.store].id).collect();

    if let Some(row) = transaction.query_opt(TAKEN, &[&ids, &names, &customer_ids, &documents]).await? {
        return Err(Error::usage(format!("the database has a {} of its own, which this file would change", row.get::<_, &str>(0)))
            .with_hint("Load the data set into a database without other shops, for example the private one: leave DATABASE_URL out."));
    }
    transaction.execute(STORES, &[&ids, &names]).await?;
    transaction.execute(CUSTOMERS, &[&customer_ids, &documents, &homes]).await?;

    let products: Vec<_> = pick(&book.products, &used.products);
    let ids: Vec<Uuid> = products.iter().map(|product| product.id).collect();
    let shops: Vec<Uuid> = products.iter().map(|product| book.stores[product.store].id).collect();
    let skus: Vec<&str> = products.iter().map(|product| product.sku.as_str()).collect();
    let names: Vec<Option<&str>> = products.iter().map(|product| product.name.as_deref()).collect();
    transaction.execute(PRODUCTS, &[&ids, &shops, &skus, &names]).await?;
    Ok(())
}

/// What the sales refer to; a limited book has more than that.
struct Used {
    stores: Vec<bool>,
    products: Vec<bool>,
    customers: Vec<bool>,
}

impl Used {
    fn by(book: &Book) -> Self {
        let mut used = Self {
            stores: vec![false; book.stores.len()],
            products: vec![false; book.products.len()],
            customers: vec![false; book.customers.len()],
        };
        for sale in &book.sales {
            used.stores[sale.store] = true;
            for line in &sale.lines {
                used.products[line.product] = true;
            }
            if let Some(customer) = sale.customer {
                used.customers[customer] = true;
                used.stores[book.customers[customer].store] = true;
            }
        }
        used
    }
}

fn pick<'a, T>(all: &'a [T], used: &[bool]) -> Vec<&'a T> {
    all.iter().zip(used).filter(|(_, used)| **used).map(|(item, _)| item).collect()
}
