-- $1: shop; $2, $3: first and last business date; $4: hour, weekday or month.
select to_jsonb(r)
  from (
        select b.key, b.days, b.sales_count, b.returns_count, b.items::text, b.gross_bs::text, b.gross_usd::text,
               b.net_bs::text, b.net_usd::text, b.total_bs::text, b.total_usd::text
          from analytics.sales_breakdown($1, $2, $3, $4) b
       ) r
