-- $1: shop; $2, $3: first and last business date.
select to_jsonb(r)
  from (
        select a.product_id, p.name, p.sku, a.class, a.units::text, a.revenue_bs::text, a.revenue_usd::text,
               round(a.share_percent, 2)::text as share_percent, round(a.cumulative_percent, 2)::text as cumulative_percent
          from analytics.product_abc($1, $2, $3) a
          left join public.products p on p.id = a.product_id
         limit 10000
       ) r
