-- $1: shop; $2, $3: first and last business date.
select to_jsonb(r)
  from (
        select h.weekday, h.hour, h.days, h.sales_count, h.net_bs::text, h.net_usd::text
          from analytics.sales_heatmap($1, $2, $3) h
       ) r
