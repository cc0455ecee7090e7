-- A shop with the users' schema: no clock on its shops, no day on its sales, no foreign key to them, totals with totals only.
create table stores (id uuid primary key default gen_random_uuid(), name text not null);
create table products (
  id uuid primary key default gen_random_uuid(), store_id uuid not null references stores, name text, category text, sku text,
  is_active boolean not null default true, current_stock numeric(14, 3) not null default 0,
  low_stock_threshold numeric(14, 3) not null default 0, cost_bs numeric(18, 4) default 0, cost_usd numeric(18, 4) default 0
);
create table customers (id uuid primary key default gen_random_uuid(), store_id uuid references stores, name text);
create table sales (
  id uuid primary key default gen_random_uuid(), store_id uuid not null references stores, customer_id uuid references customers,
  status text not null, sold_at timestamptz not null default now(), totals jsonb not null, payment jsonb not null
);
create table sale_items (
  id uuid primary key default gen_random_uuid(), sale_id uuid not null, product_id uuid not null references products,
  qty numeric(14, 3) not null, unit_price_bs numeric(18, 4) not null, unit_price_usd numeric(18, 4) not null
);
create table events (
  id uuid primary key default gen_random_uuid(), store_id uuid not null, type text not null, payload jsonb,
  created_at timestamptz not null default now()
);

insert into stores (name) values ('Centro'), ('Este');
insert into products (store_id, name, category, sku, current_stock, cost_bs, cost_usd)
select s.id, 'Producto ' || i, 'Víveres', i::text, i, 40 * i, i from stores s cross join generate_series(1, 20) i;
insert into customers (store_id, name) select s.id, 'Cliente ' || i from stores s cross join generate_series(1, 30) i;
insert into sales (store_id, customer_id, status, sold_at, totals, payment)
select s.id, (select c.id from customers c where c.store_id = s.id and c.name = 'Cliente ' || i % 40),
       case when i % 17 = 0 then 'voided' else 'completed' end, now() - i * interval '11 minutes',
       jsonb_build_object('total_bs', 40 * i, 'total_usd', i), jsonb_build_object('method', case i % 3 when 0 then 'cash_bs' else 'pago_movil' end)
  from stores s cross join generate_series(1, 12000) i;
insert into sale_items (sale_id, product_id, qty, unit_price_bs, unit_price_usd)
select s.id, p.id, 1, (s.totals ->> 'total_bs')::numeric, (s.totals ->> 'total_usd')::numeric
  from sales s
  join products p on p.store_id = s.store_id and p.sku = ((s.totals ->> 'total_usd')::int % 20 + 1)::text;
insert into events (store_id, type) select store_id, 'sale' from sales limit 100;
analyze;
