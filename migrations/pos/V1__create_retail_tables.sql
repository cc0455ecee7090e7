-- The tables of a point of sale, for a new or a demo database; a shop that has its own skips this pack.
-- Locks: none that matter, every table is new; the foreign keys among them are validated while empty.
-- Undo: drop these tables; nothing else refers to them before the packs `indexes` and `rollups` do.

create table public.stores (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  time_zone text not null default 'America/Caracas',
  day_start interval not null default '00:00',
  created_at timestamptz not null default now(),
  constraint stores_name_key unique (name),
  constraint stores_name_not_blank check (btrim(name) <> ''),
  constraint stores_time_zone_known check (timezone(time_zone, timestamptz '2000-01-01 00:00+00') is not null),
  constraint stores_day_start_is_an_hour check (day_start >= interval '0' and day_start < interval '24 hours'
    and day_start = date_trunc('hour', day_start))
);
comment on table public.stores is 'Shops. Every number of the contract belongs to one of them.';
comment on column public.stores.time_zone is 'IANA time zone of the shop; its clock dates the sales.';
comment on column public.stores.day_start is 'When the business day begins, by the shop''s clock, on the hour: with 04:00, a sale at 03:00 belongs to yesterday.';

create table public.exchange_rates (
  rate_date date primary key,
  bs_per_usd numeric(18, 6) not null,
  constraint exchange_rates_positive check (bs_per_usd > 0)
);
comment on table public.exchange_rates is 'Official rate of the day. A sale freezes the rate it was made at, so a correction here moves no sale.';
comment on column public.exchange_rates.bs_per_usd is 'Bolívares for one US dollar.';

create table public.products (
  id uuid primary key default gen_random_uuid(),
  store_id uuid not null references public.stores (id),
  name text,
  category text,
  sku text not null,
  is_active boolean not null default true,
  current_stock numeric(14, 3) not null default 0,
  low_stock_threshold numeric(14, 3) not null default 0,
  price_bs numeric(18, 4) not null default 0,
  price_usd numeric(18, 4) not null default 0,
  cost_bs numeric(18, 4) not null default 0,
  cost_usd numeric(18, 4) not null default 0,
  constraint products_store_sku_key unique (store_id, sku)
);
comment on table public.products is 'What a shop sells. `sku` is the shop''s own code, unique within the shop.';
comment on column public.products.name is 'Shown to people; NULL where the source never described the product.';

create table public.customers (
  id uuid primary key default gen_random_uuid(),
  store_id uuid references public.stores (id),
  name text,
  document_id text not null,
  created_at timestamptz not null default now(),
  constraint customers_document_id_key unique (document_id)
);
comment on table public.customers is 'Buyers who gave a name. `document_id` is the identity number on the receipt (cédula, RIF) or the source''s customer number.';

create table public.cashiers (
  id uuid primary key default gen_random_uuid(),
  store_id uuid not null references public.stores (id),
  name text not null
);
comment on table public.cashiers is 'Who rang the sale up.';

create table public.sales (
  id uuid primary key default gen_random_uuid(),
  store_id uuid not null references public.stores (id),
  customer_id uuid references public.customers (id),
  cashier_id uuid references public.cashiers (id),
  number text not null,
  kind text not null default 'sale',
  status text not null default 'completed',
  sold_at timestamptz not null,
  local_time timestamp not null,
  business_date date not null,
  rate numeric(18, 6) not null,
  totals jsonb not null,
  payment jsonb not null default '{}',
  created_at timestamptz not null default now(),
  voided_at timestamptz,
  constraint sales_store_number_key unique (store_id, number),
  constraint sales_kind_known check (kind in ('sale', 'return', 'adjustment')),
  constraint sales_status_known check (status in ('pending', 'completed', 'voided')),
  constraint sales_rate_positive check (rate > 0),
  constraint sales_voided_at_with_status check ((status = 'voided') = (voided_at is not null))
);
comment on table public.sales is 'Headers of sales, returns and adjustments. A return bears negative quantities and totals; a void keeps its row with status voided.';
comment on column public.sales.number is 'Receipt number, unique within the shop: sending a sale twice finds it.';
comment on column public.sales.kind is 'sale, return (negative amounts), or adjustment (bookkeeping; in no KPI).';
comment on column public.sales.local_time is 'sold_at by the shop''s clock, frozen when written (trigger sales_clock).';
comment on column public.sales.business_date is 'The business day of the sale by the shop''s clock and day_start, frozen when written (trigger sales_clock).';
comment on column public.sales.rate is 'Bolívares for one US dollar at the time of the sale, frozen. A sale without a rate is refused.';
comment on column public.sales.totals is 'Amounts as JSON numbers: gross_bs, gross_usd, discount_bs, discount_usd, tax_bs, tax_usd, total_bs, total_usd, items (units sold). Negative on returns.';
comment on column public.sales.payment is 'method: the single tender used, or mixed; tenders: [{method, currency, amount, amount_bs, amount_usd}]; change: {currency, amount} or absent; refund_of: the number of the sale that a return gives back, or absent.';

create table public.sale_items (
  id uuid primary key default gen_random_uuid(),
  sale_id uuid not null references public.sales (id) on delete cascade,
  line_no integer not null,
  product_id uuid not null references public.products (id),
  qty numeric(14, 3) not null,
  unit_price_bs numeric(18, 4) not null,
  unit_price_usd numeric(18, 4) not null,
  discount_bs numeric(18, 4) not null default 0,
  discount_usd numeric(18, 4) not null default 0,
  unit_cost_bs numeric(18, 4) not null default 0,
  unit_cost_usd numeric(18, 4) not null default 0,
  constraint sale_items_sale_line_key unique (sale_id, line_no)
);
comment on table public.sale_items is 'Lines of a sale. Prices, discounts and costs are those of the moment of the sale.';
comment on column public.sale_items.discount_bs is 'Discount of the whole line, not of one unit.';

create table public.sale_payments (
  sale_id uuid not null references public.sales (id) on delete cascade,
  line_no integer not null,
  method text not null,
  currency text not null,
  amount numeric(18, 4) not null,
  amount_bs numeric(18, 4) not null,
  amount_usd numeric(18, 4) not null,
  primary key (sale_id, line_no),
  constraint sale_payments_currency_known check (currency in ('BS', 'USD'))
);
comment on table public.sale_payments is 'Tenders of a sale, one row each; change given back is a row with a negative amount. Their sum is the sale''s total.';
comment on column public.sale_payments.amount is 'In `currency`; amount_bs and amount_usd are the same money at the sale''s rate.';
