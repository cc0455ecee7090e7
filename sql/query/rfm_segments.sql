-- $1: shop; $2, $3: first and last business date.
select to_jsonb(x)
  from (
        select r.segment, count(*) as customers, sum(r.monetary_bs)::text as monetary_bs, sum(r.monetary_usd)::text as monetary_usd
          from analytics.customer_scores($1, $2, $3) r
         group by r.segment
         order by sum(r.monetary_usd) desc, r.segment
       ) x
