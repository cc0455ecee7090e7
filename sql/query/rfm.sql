-- $1: shop; $2, $3: first and last business date; $4: at most so many.
select to_jsonb(x)
  from (
        select r.customer_id, c.name, r.last_sale::text, r.recency_days, r.frequency, r.monetary_bs::text, r.monetary_usd::text, r.r, r.f, r.m, r.segment
          from analytics.customer_scores($1, $2, $3) r
          left join public.customers c on c.id = r.customer_id
         order by r.monetary_usd desc, r.customer_id
         limit $4
       ) x
