create table public.stores (id int primary key, name text not null);
insert into public.stores select i, 'store ' || i from generate_series(1, 20) i;
create table public.sales (
  id uuid primary key default gen_random_uuid(), store_id int not null, status text not null, sold_at timestamptz not null, totals jsonb not null);
create table public.sale_items (
  id uuid primary key default gen_random_uuid(), sale_id uuid not null references public.sales, product_id int not null,
  qty numeric not null, price numeric not null);
create index on public.sale_items (sale_id);
insert into public.sales (store_id, status, sold_at, totals)
select 1 + i % 20, 'completed', now() - i * interval '10 s', jsonb_build_object('total', i * 0.01) from generate_series(1, 100000) i;
insert into public.sale_items (sale_id, product_id, qty, price)
select id, 1 + (random() * 4999)::int, 2, 10.5 from public.sales, generate_series(1, 3);
create schema analytics;
