-- $1: shop; $2, $3: first and last business date.
select to_jsonb(r)
  from (
        select m.method, m.sales_count, m.amount_bs::text, m.amount_usd::text, round(m.share_percent, 1)::text as share_percent
          from analytics.payment_mix($1, $2, $3) m
       ) r
