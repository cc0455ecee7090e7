-- $1: shop; $2, $3: first and last business date.
select to_jsonb(r)
  from (
        select c.category, c.products, c.units::text, c.revenue_bs::text, c.revenue_usd::text, c.margin_bs::text,
               c.margin_usd::text, round(c.share_percent, 1)::text as share_percent
          from analytics.category_mix($1, $2, $3) c
       ) r
