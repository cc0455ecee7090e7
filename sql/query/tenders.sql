-- $1: shop; $2, $3: first and last business date.
select to_jsonb(r)
  from (
        select t.method, t.currency, t.payments, t.amount::text, t.amount_bs::text, t.amount_usd::text
          from analytics.tender_mix($1, $2, $3) t
       ) r
