create table public.sales (
  id uuid primary key default gen_random_uuid(), store_id int not null, customer_id uuid, status text not null,
  sold_at timestamptz not null, totals jsonb not null, payment jsonb not null);
create table public.sale_items (
  id uuid primary key default gen_random_uuid(), sale_id uuid not null, product_id int not null,
  qty numeric not null, unit_price_bs numeric not null, unit_price_usd numeric not null);
create index on public.sale_items (sale_id);
insert into public.sales (store_id, customer_id, status, sold_at, totals, payment)
select 1 + i % 20, gen_random_uuid(), 'completed', now() - i * interval '10 s',
       jsonb_build_object('total_bs', i * 0.01, 'total_usd', i * 0.001), '{"method": "cash"}'
  from generate_series(1, 100000) i;
insert into public.sale_items (sale_id, product_id, qty, unit_price_bs, unit_price_usd)
select id, 1 + (random() * 4999)::int, 2, 10.5, 1.25 from public.sales, generate_series(1, 3);
