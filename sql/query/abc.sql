-- $1: shop; $2, $3: first and last business date.
select to_jsonb(r)
  from (
        select a.product_id, p.name, p.sku, a.class, a.units::text, a.revenue_bs::text, a.revenue_usd::text,
               round(a.share_percent, 2)::text as share_percent, round(a.cumulative_percent, 2)::text as cumulative_percent,
               x.class as steadiness, round(x.variation, 2)::text as variation
          from analytics.product_abc($1, $2, $3) a
          left join analytics.product_xyz($1, $2, $3) x on x.product_id = a.product_id
          left join public.products p on p.id = a.product_id
         order by a.revenue_usd desc, a.product_id
         limit 10000
       ) r
