create or replace function analytics.product_abc(store uuid, first date, last date)
returns table (product_id uuid, revenue_bs numeric, revenue_usd numeric, units numeric, share_percent numeric, cumulative_percent numeric, class text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select r.product_id, r.revenue_bs, r.revenue_usd, r.units,
         100 * r.counted / nullif(r.all_revenue, 0), 100 * r.running / nullif(r.all_revenue, 0),
         case when r.revenue_usd <= 0 then 'C'
              when 100 * r.above < 80 * r.all_revenue then 'A'
              when 100 * r.above < 95 * r.all_revenue then 'B'
              else 'C' end
    from (
          select t.*,
                 sum(t.counted) over () as all_revenue,
                 sum(t.counted) over (order by t.revenue_usd desc, t.product_id) as running,
                 -- Of all that sold strictly more: equals are in one class.
                 coalesce(sum(t.counted) over (
                   order by t.revenue_usd desc range between unbounded preceding and current row exclude group), 0) as above
            from (
                  select d.product_id, sum(d.revenue_bs) as revenue_bs, sum(d.revenue_usd) as revenue_usd, sum(d.units) as units,
                         greatest(sum(d.revenue_usd), 0) as counted
                    from analytics.product_sales_daily_totals d
                   where d.store_id = product_abc.store
                     and d.sale_date between product_abc.first and product_abc.last
                   group by d.product_id
                 ) t
         ) r
   order by r.revenue_usd desc, r.product_id
$$;
comment on function analytics.product_abc(uuid, date, date) is
  'Products by revenue in US dollars: A while what sells more makes less than 80 percent of it, B less than 95, else C; equals share a class, no revenue is C.';
