create extension pulso;
create schema analytics;
select pulso.create_rollup('analytics.hourly', $$
  select store_id, date_trunc('hour', sold_at at time zone 'America/Caracas') as hour, count(*) as n,
         sum(pulso.jsonb_numeric(totals, 'total_bs')) as bs, sum(pulso.jsonb_numeric(totals, 'total_usd')) as usd
    from public.sales where status = 'completed' group by 1, 2 $$);
select pulso.create_rollup('analytics.daily', $$
  select store_id, (sold_at at time zone 'America/Caracas')::date as day, count(*) as n,
         sum(pulso.jsonb_numeric(totals, 'total_bs')) as bs, sum(pulso.jsonb_numeric(totals, 'total_usd')) as usd
    from public.sales where status = 'completed' group by 1, 2 $$);
select pulso.create_rollup('analytics.products', $$
  select product_id, count(*) as n, sum(qty) as units, sum(qty * unit_price_bs) as bs, sum(qty * unit_price_usd) as usd
    from public.sale_items group by 1 $$);
