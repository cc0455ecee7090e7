-- What a point of sale notes beside its sales: events, stock movements, metrics over time, sales by hour of the day.
-- Locks: none that matter, the tables are new; ShareRowExclusive on stores, products and sales for the milliseconds in
-- which foreign keys to them are made. Undo: drop these tables.

create table if not exists public.events (
  id bigint generated always as identity primary key,
  store_id uuid not null references public.stores (id),
  type text not null,
  payload jsonb not null default '{}',
  created_at timestamptz not null default now()
);
comment on table public.events is 'What happened in a shop, in order; only ever appended to.';
comment on column public.events.type is 'What kind of event, as the application names it.';

create table if not exists public.inventory_movements (
  id bigint generated always as identity primary key,
  store_id uuid not null references public.stores (id),
  product_id uuid not null references public.products (id),
  sale_id uuid references public.sales (id) on delete set null,
  reason text not null,
  qty numeric(14, 3) not null,
  happened_at timestamptz not null default now()
);
comment on table public.inventory_movements is 'Changes of stock: positive in, negative out.';
comment on column public.inventory_movements.sale_id is 'The sale that took the goods, where it was one.';
comment on column public.inventory_movements.reason is 'Why, as the application names it: sale, return, delivery, count, loss.';

create table if not exists public.real_time_metrics (
  id bigint generated always as identity primary key,
  store_id uuid not null references public.stores (id),
  metric text not null,
  value numeric not null,
  created_at timestamptz not null default now()
);
comment on table public.real_time_metrics is 'Measurements of a shop over time, as the application takes them.';

create table if not exists public.sales_heatmap (
  store_id uuid not null references public.stores (id),
  date date not null,
  hour smallint not null,
  sales_count integer not null default 0,
  primary key (store_id, date, hour),
  constraint sales_heatmap_hour_of_day check (hour between 0 and 23)
);
comment on table public.sales_heatmap is 'Sales by day and hour, where the application keeps them itself; analytics.sales_hourly has them exactly.';
