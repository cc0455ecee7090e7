create or replace function analytics.product_xyz(store uuid, first date, last date)
returns table (product_id uuid, weeks int, units_per_week numeric, variation numeric, class text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select v.product_id, v.weeks, v.mean, v.variation,
         case when v.weeks < 4 then null
              when v.variation <= 0.5 then 'X' when v.variation <= 1 then 'Y' else 'Z' end
    from (
          select w.product_id, w.weeks, sum(w.units) / w.weeks as mean,
                 -- Weeks without a sale are zeros: they are in the count and in no sum.
                 sqrt(greatest(sum(w.units * w.units) / w.weeks - (sum(w.units) / w.weeks) ^ 2, 0)) / nullif(greatest(sum(w.units) / w.weeks, 0), 0) as variation
            from (
                  select d.product_id, (product_xyz.last - product_xyz.first + 1) / 7 as weeks, (product_xyz.last - d.sale_date) / 7 as week, sum(d.units) as units
                    from analytics.product_sales_daily_totals d
                   where d.store_id = product_xyz.store
                     and d.sale_date between product_xyz.last - 7 * ((product_xyz.last - product_xyz.first + 1) / 7) + 1 and product_xyz.last
                   group by 1, 2, 3
                 ) w
           group by w.product_id, w.weeks
         ) v
   order by v.product_id
$$;
comment on function analytics.product_xyz(uuid, date, date) is
  'How steadily products sell: the coefficient of variation of the units of each whole week that ends on the last day, weeks without a sale counted as zero. X up to 0.5, Y up to 1, Z above or unsold; NULL in fewer than four weeks.';
