-- The rollups under the contract's views, kept exact in the transaction of each sale.
-- Locks: ShareRowExclusive on sales while they fill (readers go on, writers wait): about 2 s per million sales and rollup.
-- Undo: select pulso.drop_rollup(name) for each.

select pulso.create_rollup('analytics.sales_hourly', $$
  select s.store_id,
         date_trunc('hour', s.local_time) as hour,
         count(*) filter (where s.kind = 'sale') as sales_count,
         count(*) filter (where s.kind = 'return') as returns_count,
         sum(coalesce(pulso.jsonb_numeric(s.totals, 'items'), 0)) as items,
         sum(case when s.kind = 'sale' then coalesce(pulso.jsonb_numeric(s.totals, 'gross_bs'), 0) else 0 end) as gross_bs,
         sum(case when s.kind = 'sale' then coalesce(pulso.jsonb_numeric(s.totals, 'gross_usd'), 0) else 0 end) as gross_usd,
         sum(coalesce(pulso.jsonb_numeric(s.totals, 'gross_bs'), 0) - coalesce(pulso.jsonb_numeric(s.totals, 'discount_bs'), 0)) as net_bs,
         sum(coalesce(pulso.jsonb_numeric(s.totals, 'gross_usd'), 0) - coalesce(pulso.jsonb_numeric(s.totals, 'discount_usd'), 0)) as net_usd,
         sum(coalesce(pulso.jsonb_numeric(s.totals, 'total_bs'), 0)) as total_bs,
         sum(coalesce(pulso.jsonb_numeric(s.totals, 'total_usd'), 0)) as total_usd
    from public.sales s
   where s.status = 'completed' and s.kind in ('sale', 'return')
   group by 1, 2
$$);

select pulso.create_rollup('analytics.sales_daily_totals', $$
  select s.store_id,
         s.business_date as sale_date,
         count(*) filter (where s.kind = 'sale') as sales_count,
         count(*) filter (where s.kind = 'return') as returns_count,
         sum(coalesce(pulso.jsonb_numeric(s.totals, 'items'), 0)) as items,
         sum(case when s.kind = 'sale' then coalesce(pulso.jsonb_numeric(s.totals, 'items'), 0) else 0 end) as items_sold,
         sum(case when s.kind = 'sale' then coalesce(pulso.jsonb_numeric(s.totals, 'gross_bs'), 0) else 0 end) as gross_bs,
         sum(case when s.kind = 'sale' then coalesce(pulso.jsonb_numeric(s.totals, 'gross_usd'), 0) else 0 end) as gross_usd,
         sum(case when s.kind = 'sale' then coalesce(pulso.jsonb_numeric(s.totals, 'discount_bs'), 0) else 0 end) as discounts_bs,
         sum(case when s.kind = 'sale' then coalesce(pulso.jsonb_numeric(s.totals, 'discount_usd'), 0) else 0 end) as discounts_usd,
         sum(case when s.kind = 'return' then coalesce(pulso.jsonb_numeric(s.totals, 'discount_bs'), 0) - coalesce(pulso.jsonb_numeric(s.totals, 'gross_bs'), 0) else 0 end) as returns_bs,
         sum(case when s.kind = 'return' then coalesce(pulso.jsonb_numeric(s.totals, 'discount_usd'), 0) - coalesce(pulso.jsonb_numeric(s.totals, 'gross_usd'), 0) else 0 end) as returns_usd,
         sum(coalesce(pulso.jsonb_numeric(s.totals, 'tax_bs'), 0)) as tax_bs,
         sum(coalesce(pulso.jsonb_numeric(s.totals, 'tax_usd'), 0)) as tax_usd,
         sum(coalesce(pulso.jsonb_numeric(s.totals, 'total_bs'), 0)) as total_bs,
         sum(coalesce(pulso.jsonb_numeric(s.totals, 'total_usd'), 0)) as total_usd
    from public.sales s
   where s.status = 'completed' and s.kind in ('sale', 'return')
   group by 1, 2
$$);

select pulso.create_rollup('analytics.payment_mix_daily', $$
  select s.store_id,
         s.business_date as sale_date,
         s.payment ->> 'method' as method,
         count(*) filter (where s.kind = 'sale') as sales_count,
         sum(coalesce(pulso.jsonb_numeric(s.totals, 'total_bs'), 0)) as amount_bs,
         sum(coalesce(pulso.jsonb_numeric(s.totals, 'total_usd'), 0)) as amount_usd
    from public.sales s
   where s.status = 'completed' and s.kind in ('sale', 'return')
   group by 1, 2, 3
$$);

select pulso.create_rollup('analytics.customer_sales_daily', $$
  select s.store_id,
         s.business_date as sale_date,
         s.customer_id,
         count(*) as sales_count,
         sum(coalesce(pulso.jsonb_numeric(s.totals, 'total_bs'), 0)) as total_bs,
         sum(coalesce(pulso.jsonb_numeric(s.totals, 'total_usd'), 0)) as total_usd
    from public.sales s
   where s.status = 'completed' and s.kind = 'sale' and s.customer_id is not null
   group by 1, 2, 3
$$);
