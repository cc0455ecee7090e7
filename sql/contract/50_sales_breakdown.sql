create or replace function analytics.sales_breakdown(store uuid, first date, last date, dimension text)
returns table (
  key text, days bigint, sales_count bigint, returns_count bigint, items numeric,
  gross_bs numeric, gross_usd numeric, net_bs numeric, net_usd numeric, total_bs numeric, total_usd numeric
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  opens interval;
begin
  if sales_breakdown.dimension = 'hour' then
    select s.day_start into opens from analytics.stores s where s.store_id = sales_breakdown.store;
    return query
    select lpad(k.n::text, 2, '0'), (sales_breakdown.last - sales_breakdown.first + 1)::bigint,
           coalesce(sum(h.sales_count), 0)::bigint, coalesce(sum(h.returns_count), 0)::bigint, coalesce(sum(h.items), 0),
           coalesce(sum(h.gross_bs), 0), coalesce(sum(h.gross_usd), 0), coalesce(sum(h.net_bs), 0), coalesce(sum(h.net_usd), 0),
           coalesce(sum(h.total_bs), 0), coalesce(sum(h.total_usd), 0)
      from generate_series(0, 23) as k (n)
      left join analytics.sales_hourly h
        on extract(hour from h.hour) = k.n
       and h.store_id = sales_breakdown.store
       and h.hour >= sales_breakdown.first + opens
       and h.hour < sales_breakdown.last + 1 + opens
     group by k.n
     order by k.n;
  elsif sales_breakdown.dimension in ('weekday', 'month') then
    return query
    select x.key, count(*)::bigint,
           coalesce(sum(d.sales_count), 0)::bigint, coalesce(sum(d.returns_count), 0)::bigint, coalesce(sum(d.items), 0),
           coalesce(sum(d.gross_bs), 0), coalesce(sum(d.gross_usd), 0),
           coalesce(sum(d.gross_bs - d.discounts_bs - d.returns_bs), 0), coalesce(sum(d.gross_usd - d.discounts_usd - d.returns_usd), 0),
           coalesce(sum(d.total_bs), 0), coalesce(sum(d.total_usd), 0)
      from (select t.day::date as day,
                   case sales_breakdown.dimension
                     when 'weekday' then extract(isodow from t.day)::text
                     else to_char(t.day, 'YYYY-MM') end as key
              from generate_series(sales_breakdown.first::timestamp, sales_breakdown.last::timestamp, interval '1 day') as t (day)) x
      left join analytics.sales_daily_totals d
        on d.store_id = sales_breakdown.store
       and d.sale_date = x.day
       and d.sale_date between sales_breakdown.first and sales_breakdown.last
     group by x.key
     order by x.key;
  else
    raise exception 'there is no dimension %', sales_breakdown.dimension
      using errcode = '22023', hint = 'The dimensions are hour, weekday and month.';
  end if;
end
$$;
comment on function analytics.sales_breakdown(uuid, date, date, text) is
  'Sales of a shop by hour of its clock (00 to 23), weekday (1 Monday to 7) or month (YYYY-MM), from the first business date to the last; `days` is how many days of the range belong to the row. Fresh at commit.';
