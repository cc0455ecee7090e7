create or replace function analytics.sales_heatmap(store uuid, first date, last date)
returns table (weekday int, hour int, days bigint, sales_count bigint, net_bs numeric, net_usd numeric)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  opens interval;
begin
  select s.day_start into opens from analytics.stores s where s.store_id = sales_heatmap.store;
  return query
  with sold as (
    select extract(isodow from h.hour - opens)::int as weekday, extract(hour from h.hour)::int as hour,
           sum(h.sales_count)::bigint as sales_count, sum(h.net_bs) as net_bs, sum(h.net_usd) as net_usd
      from analytics.sales_hourly h
     where h.store_id = sales_heatmap.store
       and h.hour >= sales_heatmap.first + opens
       and h.hour < sales_heatmap.last + 1 + opens
     group by 1, 2
  ), week as (
    select w.n as weekday,
           (select count(*)
              from generate_series(sales_heatmap.first::timestamp, sales_heatmap.last::timestamp, interval '1 day') as t (day)
             where extract(isodow from t.day) = w.n) as days
      from generate_series(1, 7) as w (n)
  )
  select w.weekday, k.n, w.days, coalesce(s.sales_count, 0), coalesce(s.net_bs, 0), coalesce(s.net_usd, 0)
    from week w
   cross join generate_series(0, 23) as k (n)
    left join sold s on s.weekday = w.weekday and s.hour = k.n
   order by 1, 2;
end
$$;
comment on function analytics.sales_heatmap(uuid, date, date) is
  'Sales of a shop by weekday of the business date (1 Monday to 7) and hour of its clock: all 168 cells. `days` is how often the weekday comes in the range. Fresh at commit.';
