-- plpgsql, because it is looked at only when it is called: a shop's own products may keep no stock.
create or replace function analytics.inventory(store uuid)
returns table (
  total_products bigint, low_stock_count bigint, out_of_stock_count bigint, total_units numeric,
  total_stock_value_bs numeric, total_stock_value_usd numeric
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select count(*),
         count(*) filter (where p.low_stock_threshold > 0 and p.current_stock <= p.low_stock_threshold),
         count(*) filter (where p.current_stock <= 0),
         coalesce(sum(p.current_stock), 0),
         coalesce(sum(p.current_stock * p.cost_bs), 0),
         coalesce(sum(p.current_stock * p.cost_usd), 0)
    from public.products p
   where p.store_id = inventory.store
     and pulso.caller_sees(inventory.store)
     and p.is_active;
end
$$;
revoke execute on function analytics.inventory(uuid) from public;
comment on function analytics.inventory(uuid) is
  'Active products of a shop now: how many, how many are low (stock at or below a threshold above zero) or out (none left), and what the stock has cost. Stock below zero, sold before its delivery was booked, counts against it.';

create or replace function analytics.stock_days(store uuid, days int default 90)
returns table (
  product_id uuid, name text, sku text, category text, stock numeric, low_stock_threshold numeric,
  units_sold numeric, units_per_day numeric, days_of_cover numeric, sell_through_percent numeric, state text
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  today date := analytics.business_date(stock_days.store);
begin
  return query
  select p.id, p.name, p.sku, p.category, p.current_stock, p.low_stock_threshold, coalesce(s.units, 0),
         coalesce(s.units, 0) / stock_days.days,
         greatest(p.current_stock, 0) * stock_days.days / nullif(greatest(s.units, 0), 0),
         100 * s.units / nullif(s.units + greatest(p.current_stock, 0), 0),
         case when p.current_stock <= 0 then 'out'
              when p.low_stock_threshold > 0 and p.current_stock <= p.low_stock_threshold then 'low'
              else 'enough' end
    from public.products p
    left join (
           select d.product_id, sum(d.units) as units
             from analytics.product_sales_daily_totals d
            where d.store_id = stock_days.store
              and d.sale_date between today - stock_days.days and today - 1
            group by d.product_id
         ) s on s.product_id = p.id
   where p.store_id = stock_days.store
     and pulso.caller_sees(stock_days.store)
     and p.is_active
   order by 9 nulls last, 7 desc, 1;
end
$$;
revoke execute on function analytics.stock_days(uuid, int) from public;
comment on function analytics.stock_days(uuid, int) is
  'Active products of a shop with the days that their stock lasts at the rate of the last `days` whole business days (90), those that run out first first. days_of_cover is NULL where nothing was sold; sell_through is units sold of those sold and those left.';
