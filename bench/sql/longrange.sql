-- The same sales in each form that is compared; `sales` itself is the plain table, and the rollup's source.
create index sales_store_sold_at_idx on public.sales (store_id, sold_at desc) where status = 'completed';
create materialized view public.daily_view as
select store_id, business_date as day, count(*) as n, sum((totals ->> 'total_bs')::numeric) as total_bs, sum((totals ->> 'total_usd')::numeric) as total_usd
  from public.sales where status = 'completed' group by 1, 2;
create unique index on public.daily_view (store_id, day);
select pulso.create_rollup('public.daily_rollup', $$
  select store_id, business_date as day, count(*) as n, sum(pulso.jsonb_numeric(totals, 'total_bs')) as total_bs, sum(pulso.jsonb_numeric(totals, 'total_usd')) as total_usd
    from public.sales where status = 'completed' group by 1, 2 $$);
