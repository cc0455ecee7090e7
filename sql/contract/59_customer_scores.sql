create or replace function analytics.customer_scores(store uuid, first date, last date)
returns table (
  customer_id uuid, last_sale date, recency_days int, frequency bigint, monetary_bs numeric, monetary_usd numeric,
  r int, f int, m int, segment text
)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select s.customer_id, s.last_sale, customer_scores.last - s.last_sale, s.frequency, s.monetary_bs, s.monetary_usd, s.r, s.f, s.m,
         case when s.r >= 4 and s.f >= 4 and s.m >= 4 then 'champion'
              when s.r >= 3 and s.f >= 4 then 'loyal'
              when s.r >= 4 then 'recent'
              when s.r <= 2 and (s.f >= 4 or s.m >= 4) then 'at risk'
              when s.r <= 2 then 'lost'
              else 'regular' end
    from (
          select b.*,
                 (1 + 5 * (rank() over (order by b.last_sale) - 1) / count(*) over ())::int as r,
                 (1 + 5 * (rank() over (order by b.frequency) - 1) / count(*) over ())::int as f,
                 (1 + 5 * (rank() over (order by b.monetary_usd) - 1) / count(*) over ())::int as m
            from (
                  select c.customer_id, max(c.sale_date) as last_sale, sum(c.sales_count)::bigint as frequency,
                         coalesce(sum(c.total_bs), 0) as monetary_bs, coalesce(sum(c.total_usd), 0) as monetary_usd
                    from analytics.customer_sales_daily c
                   where c.store_id = customer_scores.store
                     and c.sale_date between customer_scores.first and customer_scores.last
                   group by c.customer_id
                 ) b
         ) s
   order by s.monetary_usd desc, s.customer_id
$$;
comment on function analytics.customer_scores(uuid, date, date) is
  'Customers of a shop by recency, frequency and money, each scored 1 to 5 by the part of the customers that is worse (equal ones score the same): champion r, f, m >= 4; loyal r >= 3, f >= 4; recent r >= 4; at risk r <= 2, f or m >= 4; lost r <= 2; regular else.';
