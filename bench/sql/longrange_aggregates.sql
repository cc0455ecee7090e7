create materialized view public.aggregate_hourly with (timescaledb.continuous, timescaledb.materialized_only = false) as
select time_bucket('1 hour', sold_at) as bucket, store_id, business_date as day, count(*) as n, sum((totals ->> 'total_bs')::numeric) as total_bs, sum((totals ->> 'total_usd')::numeric) as total_usd
  from public.sales_7d where status = 'completed' group by 1, 2, 3 with no data;
create materialized view public.aggregate_daily with (timescaledb.continuous, timescaledb.materialized_only = false) as
select time_bucket('1 day', sold_at) as bucket, store_id, business_date as day, count(*) as n, sum((totals ->> 'total_bs')::numeric) as total_bs, sum((totals ->> 'total_usd')::numeric) as total_usd
  from public.sales_7d where status = 'completed' group by 1, 2, 3 with no data;
create materialized view public.aggregate_daily_on_hourly with (timescaledb.continuous, timescaledb.materialized_only = false) as
select time_bucket('1 day', bucket) as bucket, store_id, day, sum(n)::bigint as n, sum(total_bs) as total_bs, sum(total_usd) as total_usd
  from public.aggregate_hourly group by 1, 2, 3 with no data;
