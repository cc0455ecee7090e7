//! The till's statements. A batch of one is a ticket; a batch of many is a shop's day, or what an offline till sends.

use super::chain::Shop;
use super::ticket::Ticket;
use crate::retail::Jsonb;
use jiff::Timestamp;
use rust_decimal::Decimal;
use std::collections::BTreeMap;
use tokio_postgres::{Client, Error, Statement, Transaction};
use uuid::Uuid;

/// The driver's own error: a till must tell a lost connection or a deadlock from the rest.
type Result<T> = std::result::Result<T, Error>;

const SALES: &str = "
insert into public.sales
       (id, store_id, customer_id, cashier_id, number, kind, sold_at, rate, totals, payment, created_at)
select n.*
  from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::timestamptz[],
              $8::numeric[], $9::jsonb[], $10::jsonb[], $11::timestamptz[]) as n";

const ITEMS: &str = "
insert into public.sale_items
       (id, sale_id, line_no, product_id, qty, unit_price_bs, unit_price_usd, discount_bs, discount_usd,
        unit_cost_bs, unit_cost_usd)
select n.*
  from unnest($1::uuid[], $2::uuid[], $3::int[], $4::uuid[], $5::numeric[], $6::numeric[], $7::numeric[],
              $8::numeric[], $9::numeric[], $10::numeric[], $11::numeric[]) as n";

const PAYMENTS: &str = "
insert into public.sale_payments (sale_id, line_no, method, currency, amount, amount_bs, amount_usd)
select n.*
  from unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::numeric[], $6::numeric[], $7::numeric[]) as n";

/// Products are locked in the order of their ids, whatever the plan of the update: two tills never deadlock.
const STOCK: &str = "
with locked as materialized (
  select p.id
    from public.products p
   where p.id = any($1::uuid[])
   order by p.id
     for no key update
)
update public.products p
   set current_stock = p.current_stock - n.qty
  from unnest($1::uuid[], $2::numeric[]) as n (id, qty)
  join locked on locked.id = n.id
 where p.id = n.id";

/// A delivery fills up what is low, or only what is gone, and locks nothing else.
const DELIVER: &str = "
with locked as materialized (
  select p.id
    from public.products p
   where p.id = any($1::uuid[])
     and p.current_stock <= case when $3 then p.low_stock_threshold else 0 end
   order by p.id
     for no key update
)
update public.products p
   set current_stock = n.full_shelf
  from unnest($1::uuid[], $2::numeric[]) as n (id, full_shelf)
  join locked on locked.id = n.id
 where p.id = n.id";

const VOID: &str = "
update public.sales s
   set status = 'voided', voided_at = n.at
  from unnest($1::uuid[], $2::timestamptz[]) as n (id, at)
 where s.id = n.id
   and s.status = 'completed'
returning s.id";

/// A connection's prepared statements.
pub struct Till {
    sales: Statement,
    items: Statement,
    payments: Statement,
    stock: Statement,
    deliver: Statement,
    void: Statement,
}

impl Till {
    pub async fn open(client: &Client) -> Result<Self> {
        Ok(Self {
            sales: client.prepare(SALES).await?,
            items: client.prepare(ITEMS).await?,
            payments: client.prepare(PAYMENTS).await?,
            stock: client.prepare(STOCK).await?,
            deliver: client.prepare(DELIVER).await?,
            void: client.prepare(VOID).await?,
        })
    }

    /// Inserts tickets of one shop: headers, lines, tenders, one statement each. The stock is the caller's to move.
    pub async fn insert(&self, transaction: &Transaction<'_>, shop: &Shop, tickets: &[&Ticket]) -> Result<()> {
        if tickets.is_empty() {
            return Ok(());
        }
        self.headers(transaction, shop, tickets).await?;
        self.lines(transaction, shop, tickets).await?;
        self.tenders(transaction, tickets).await
    }

    async fn headers(&self, transaction: &Transaction<'_>, shop: &Shop, tickets: &[&Ticket]) -> Result<()> {
        let ids: Vec<Uuid> = tickets.iter().map(|t| t.id).collect();
        let stores = vec![shop.id; tickets.len()];
        let customers: Vec<Option<Uuid>> = tickets.iter().map(|t| t.customer.map(|at| shop.customers[at].id)).collect();
        let cashiers: Vec<Uuid> = tickets.iter().map(|t| shop.cashiers[t.cashier].id).collect();
        let numbers: Vec<&str> = tickets.iter().map(|t| t.number.as_str()).collect();
        let kinds: Vec<&str> = tickets.iter().map(|t| t.kind.as_str()).collect();
        let sold: Vec<Timestamp> = tickets.iter().map(|t| t.sold_at).collect();
        let rates: Vec<Decimal> = tickets.iter().map(|t| t.rate).collect();
        let totals: Vec<Jsonb> = tickets.iter().map(|t| t.totals.to_jsonb()).collect();
        let payments: Vec<Jsonb> = tickets.iter().map(|t| t.payment.to_jsonb()).collect();
        let arrived: Vec<Timestamp> = tickets.iter().map(|t| t.arrived_at).collect();
        transaction
            .execute(
                &self.sales,
                &[&ids, &stores, &customers, &cashiers, &numbers, &kinds, &sold, &rates, &totals, &payments, &arrived],
            )
            .await?;
        Ok(())
    }

    async fn lines(&self, transaction: &Transaction<'_>, shop: &Shop, tickets: &[&Ticket]) -> Result<()> {
        let lines: Vec<_> =
            tickets.iter().flat_map(|t| (1_i32..).zip(&t.lines).map(|(no, line)| (*t, no, line))).collect();
        let ids: Vec<Uuid> = lines.iter().map(|(t, no, _)| t.line_id(*no)).collect();
        let sales: Vec<Uuid> = lines.iter().map(|(t, ..)| t.id).collect();
        let numbers: Vec<i32> = lines.iter().map(|(_, no, _)| *no).collect();
        let products: Vec<Uuid> = lines.iter().map(|(.., line)| shop.products[line.product].id).collect();
        let qtys: Vec<Decimal> = lines.iter().map(|(.., line)| line.qty).collect();
        let prices_bs: Vec<Decimal> = lines.iter().map(|(.., line)| line.price.bs).collect();
        let prices_usd: Vec<Decimal> = lines.iter().map(|(.., line)| line.price.usd).collect();
        let discounts_bs: Vec<Decimal> = lines.iter().map(|(.., line)| line.discount.bs).collect();
        let discounts_usd: Vec<Decimal> = lines.iter().map(|(.., line)| line.discount.usd).collect();
        let costs_bs: Vec<Decimal> = lines.iter().map(|(.., line)| line.cost.bs).collect();
        let costs_usd: Vec<Decimal> = lines.iter().map(|(.., line)| line.cost.usd).collect();
        transaction
            .execute(
                &self.items,
                &[
                    &ids,
                    &sales,
                    &numbers,
                    &products,
                    &qtys,
                    &prices_bs,
                    &prices_usd,
                    &discounts_bs,
                    &discounts_usd,
                    &costs_bs,
                    &costs_usd,
                ],
            )
            .await?;
        Ok(())
    }

    async fn tenders(&self, transaction: &Transaction<'_>, tickets: &[&Ticket]) -> Result<()> {
        let rows: Vec<_> = tickets
            .iter()
            .flat_map(|t| (1_i32..).zip(t.payment.rows()).map(|(no, tender)| (t.id, no, tender)))
            .collect();
        let sales: Vec<Uuid> = rows.iter().map(|(id, ..)| *id).collect();
        let numbers: Vec<i32> = rows.iter().map(|(_, no, _)| *no).collect();
        let methods: Vec<&str> = rows.iter().map(|(.., tender)| tender.method).collect();
        let currencies: Vec<&str> = rows.iter().map(|(.., tender)| tender.currency.as_str()).collect();
        let amounts: Vec<Decimal> = rows.iter().map(|(.., tender)| tender.amount()).collect();
        let amounts_bs: Vec<Decimal> = rows.iter().map(|(.., tender)| tender.worth.bs).collect();
        let amounts_usd: Vec<Decimal> = rows.iter().map(|(.., tender)| tender.worth.usd).collect();
        transaction
            .execute(&self.payments, &[&sales, &numbers, &methods, &currencies, &amounts, &amounts_bs, &amounts_usd])
            .await?;
        Ok(())
    }

    /// Takes from the shelf; negative quantities go back on it.
    pub async fn take(&self, transaction: &Transaction<'_>, shop: &Shop, taken: &Taken) -> Result<()> {
        let (products, qtys): (Vec<Uuid>, Vec<Decimal>) =
            taken.0.iter().filter(|(_, qty)| !qty.is_zero()).map(|(at, qty)| (shop.products[*at].id, *qty)).unzip();
        if !products.is_empty() {
            transaction.execute(&self.stock, &[&products, &qtys]).await?;
        }
        Ok(())
    }

    /// Fills up those of the products that are low, or only those that are gone.
    pub async fn deliver(
        &self,
        transaction: &Transaction<'_>,
        shop: &Shop,
        which: impl Fn(usize) -> bool,
        need: Need,
    ) -> Result<()> {
        let (products, full): (Vec<Uuid>, Vec<Decimal>) = shop
            .products
            .iter()
            .enumerate()
            .filter(|(position, _)| which(*position))
            .map(|(_, product)| (product.id, product.full))
            .unzip();
        transaction.execute(&self.deliver, &[&products, &full, &(need == Need::Low)]).await?;
        Ok(())
    }

    /// Voids those of the tickets that still count; returns their ids.
    pub async fn void(&self, transaction: &Transaction<'_>, voids: &[(Uuid, Timestamp)]) -> Result<Vec<Uuid>> {
        if voids.is_empty() {
            return Ok(Vec::new());
        }
        let (ids, times): (Vec<Uuid>, Vec<Timestamp>) = voids.iter().copied().unzip();
        let rows = transaction.query(&self.void, &[&ids, &times]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

/// What a delivery fills up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Low,
    Gone,
}

/// Units by product, netted.
#[derive(Debug, Default)]
pub struct Taken(BTreeMap<usize, Decimal>);

impl Taken {
    pub fn sell(&mut self, ticket: &Ticket) {
        for line in &ticket.lines {
            *self.0.entry(line.product).or_default() += line.qty;
        }
    }

    pub fn give_back(&mut self, ticket: &Ticket) {
        for line in &ticket.lines {
            *self.0.entry(line.product).or_default() -= line.qty;
        }
    }
}
