//! The chain in the database: refused where another shop lives, written once, its price tags kept at the day's rate.

use super::chain::{self, MAX_SHOPS, Shop};
use super::rates::Rates;
use super::ticket::unit_price;
use crate::error::{Error, Result};
use crate::retail;
use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;
use tokio_postgres::Client;
use uuid::Uuid;

const STRANGER: &str = "select s.name from public.stores s where s.id <> all($1) order by s.name limit 1";

const STORES: &str = "
insert into public.stores (id, name, time_zone, day_start, created_at)
select n.id, n.name, 'America/Caracas', make_interval(hours => n.day_start), $4
  from unnest($1::uuid[], $2::text[], $3::int[]) as n (id, name, day_start)
    on conflict (id) do nothing";

const CASHIERS: &str = "
insert into public.cashiers (id, store_id, name)
select n.id, $1, n.name
  from unnest($2::uuid[], $3::text[]) as n (id, name)
    on conflict (id) do nothing";

const CUSTOMERS: &str = "
insert into public.customers (id, store_id, name, document_id, created_at)
select n.id, $1, n.name, n.document, $5
  from unnest($2::uuid[], $3::text[], $4::text[]) as n (id, name, document)
    on conflict (id) do nothing";

const PRODUCTS: &str = "
insert into public.products (id, store_id, sku, name, category, current_stock, low_stock_threshold, price_usd, cost_usd)
select n.id, $1, n.sku, n.name, n.category, n.stock, n.low, n.price, n.cost
  from unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::numeric[], $7::numeric[], $8::numeric[], $9::numeric[])
       as n (id, sku, name, category, stock, low, price, cost)
    on conflict (id) do nothing";

const TAGS: &str = "
with locked as materialized (
  select p.id
    from public.products p
   where p.store_id = $1
   order by p.id
     for no key update
)
update public.products p
   set price_bs = n.price, cost_bs = n.cost
  from unnest($2::uuid[], $3::numeric[], $4::numeric[]) as n (id, price, cost)
  join locked on locked.id = n.id
 where p.id = n.id
   and (p.price_bs, p.cost_bs) is distinct from (n.price, n.cost)";

/// One at a time founds the chain: the second waits, and finds it there. "chain" in ASCII.
const LOCK_KEY: i64 = 0x63_68_61_69_6e;

/// When the chain opened, for `created_at` of shops and customers.
fn opened() -> Timestamp {
    Timestamp::constant(1_704_110_400, 0)
}

/// Refuses a database that is not migrated, or that holds a shop which this simulation did not make.
pub async fn check(client: &Client, seed: u64) -> Result<()> {
    retail::require_tables(client).await?;
    let ours: Vec<Uuid> = (0..MAX_SHOPS).map(|index| chain::shop_id(seed, index)).collect();
    let Some(row) = client.query_opt(STRANGER, &[&ours]).await? else {
        return Ok(());
    };
    Err(Error::usage(format!("the database holds a shop that the simulation of seed {seed} did not make: {}", row.get::<_, &str>(0)))
        .with_hint("Simulated sales would mix with its own. Give the --seed that made it, or another database: without DATABASE_URL Pulso uses a private one."))
}

/// Writes the chain where it is not there yet.
pub async fn found(client: &mut Client, shops: &[Shop]) -> Result<()> {
    let transaction = client.transaction().await?;
    transaction.execute("select pg_advisory_xact_lock($1)", &[&LOCK_KEY]).await?;
    let ids: Vec<Uuid> = shops.iter().map(|shop| shop.id).collect();
    let names: Vec<&str> = shops.iter().map(|shop| shop.name.as_str()).collect();
    let starts: Vec<i32> = shops.iter().map(|shop| i32::from(shop.trade.day_start())).collect();
    transaction.execute(STORES, &[&ids, &names, &starts, &opened()]).await?;
    for shop in shops {
        let (ids, names): (Vec<Uuid>, Vec<&str>) = shop.cashiers.iter().map(|c| (c.id, c.name.as_str())).unzip();
        transaction.execute(CASHIERS, &[&shop.id, &ids, &names]).await?;

        let (ids, names): (Vec<Uuid>, Vec<&str>) = shop.customers.iter().map(|c| (c.id, c.name.as_str())).unzip();
        let documents: Vec<&str> = shop.customers.iter().map(|c| c.document.as_str()).collect();
        transaction.execute(CUSTOMERS, &[&shop.id, &ids, &names, &documents, &opened()]).await?;

        let (ids, skus): (Vec<Uuid>, Vec<&str>) = shop.products.iter().map(|p| (p.id, p.sku.as_str())).unzip();
        let (names, categories): (Vec<&str>, Vec<&str>) =
            shop.products.iter().map(|p| (p.name.as_str(), p.category)).unzip();
        let (full, low): (Vec<Decimal>, Vec<Decimal>) = shop.products.iter().map(|p| (p.full, p.low)).unzip();
        let (prices, costs): (Vec<Decimal>, Vec<Decimal>) =
            shop.products.iter().map(|p| (p.price_usd, p.cost_usd)).unzip();
        transaction
            .execute(PRODUCTS, &[&shop.id, &ids, &skus, &names, &categories, &full, &low, &prices, &costs])
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Writes the price tags at the rate of the day, shop by shop.
pub async fn tag(client: &Client, shops: &[Shop], rates: &Rates, day: Date) -> Result<()> {
    let rate = rates.on(day)?;
    for shop in shops {
        let ids: Vec<Uuid> = shop.products.iter().map(|product| product.id).collect();
        let prices: Vec<Decimal> = shop.products.iter().map(|product| unit_price(product, rate).bs).collect();
        let costs: Vec<Decimal> =
            shop.products.iter().map(|product| super::money::at_rate(product.cost_usd, rate).bs).collect();
        client.execute(TAGS, &[&shop.id, &ids, &prices, &costs]).await?;
    }
    Ok(())
}
