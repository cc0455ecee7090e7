-- Products of a shop by what they brought in; returns are not deducted (contract view product_sales_daily).
-- $1: shop; $2, $3: first and last business date; $4: 'revenue', 'units' or 'margin'; $5: at most so many.
-- Money ranks in US dollars: bolívares of two days are not worth the same.
select t.product_id,
       p.name,
       p.sku,
       t.units::text,
       t.times_sold,
       t.revenue_bs::text,
       t.revenue_usd::text,
       t.margin_bs::text,
       t.margin_usd::text,
       round(100 * t.margin_usd / nullif(t.revenue_usd, 0), 1)::text as margin_percent
  from (
         select d.product_id,
                sum(d.units) as units,
                sum(d.times_sold)::bigint as times_sold,
                sum(d.revenue_bs) as revenue_bs,
                sum(d.revenue_usd) as revenue_usd,
                sum(d.revenue_bs - d.cost_bs) as margin_bs,
                sum(d.revenue_usd - d.cost_usd) as margin_usd
           from analytics.product_sales_daily d
          where d.store_id = $1
            and d.sale_date between $2 and $3
          group by d.product_id
       ) t
  left join public.products p on p.id = t.product_id
 order by case $4::text
            when 'units' then t.units
            when 'margin' then t.margin_usd
            else t.revenue_usd
          end desc,
          t.product_id
 limit $5
