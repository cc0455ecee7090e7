create or replace function analytics.product_abc(store uuid, first date, last date)
returns table (product_id uuid, revenue_bs numeric, revenue_usd numeric, units numeric, share_percent numeric, cumulative_percent numeric, class text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select r.product_id, r.revenue_bs, r.revenue_usd, r.units, r.share, r.cumulative,
         case when r.cumulative - r.share < 80 then 'A' when r.cumulative - r.share < 95 then 'B' else 'C' end
    from (
          select t.*,
                 100 * t.revenue_usd / nullif(sum(t.revenue_usd) over (), 0) as share,
                 100 * sum(t.revenue_usd) over (order by t.revenue_usd desc, t.product_id) / nullif(sum(t.revenue_usd) over (), 0) as cumulative
            from (
                  select d.product_id, sum(d.revenue_bs) as revenue_bs, sum(d.revenue_usd) as revenue_usd, sum(d.units) as units
                    from analytics.product_sales_daily_totals d
                   where d.store_id = product_abc.store
                     and d.sale_date between product_abc.first and product_abc.last
                   group by d.product_id
                 ) t
         ) r
   order by r.revenue_usd desc, r.product_id
$$;
comment on function analytics.product_abc(uuid, date, date) is
  'Products by revenue in US dollars: class A makes the first 80 percent of it, B those up to 95, C the rest. The product that crosses a limit belongs to the better class.';
