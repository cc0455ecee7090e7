-- The dashboard's figures straight from the sales, by the index on (store_id, business_date).
with days as (
  select s.business_date, count(*) filter (where s.kind = 'sale') as sales_count,
         sum((s.totals ->> 'items')::numeric) filter (where s.kind = 'sale') as items_sold,
         sum((s.totals ->> 'gross_bs')::numeric) filter (where s.kind = 'sale') as gross_bs,
         sum((s.totals ->> 'gross_usd')::numeric) filter (where s.kind = 'sale') as gross_usd,
         sum((s.totals ->> 'gross_bs')::numeric - (s.totals ->> 'discount_bs')::numeric) as net_bs,
         sum((s.totals ->> 'gross_usd')::numeric - (s.totals ->> 'discount_usd')::numeric) as net_usd,
         sum((s.totals ->> 'tax_bs')::numeric) as tax_bs, sum((s.totals ->> 'tax_usd')::numeric) as tax_usd,
         sum((s.totals ->> 'total_bs')::numeric) as total_bs, sum((s.totals ->> 'total_usd')::numeric) as total_usd,
         count(distinct s.customer_id) filter (where s.kind = 'sale') as unique_customers
    from public.sales s
   where s.store_id = $1 and s.status = 'completed' and s.kind in ('sale', 'return')
     and s.business_date in (current_date - $2::int, current_date - $2::int - 1, current_date - $2::int - 7)
   group by 1
), today as (
  select s.* from public.sales s
   where s.store_id = $1 and s.status = 'completed' and s.kind in ('sale', 'return') and s.business_date = current_date - $2::int
)
select (select jsonb_agg(to_jsonb(d)) from days d),
       (select jsonb_agg(to_jsonb(p)) from (
          select payment ->> 'method' as method, count(*) as n, sum((totals ->> 'total_bs')::numeric) as bs, sum((totals ->> 'total_usd')::numeric) as usd
            from today group by 1) p),
       (select jsonb_agg(to_jsonb(h)) from (
          select date_trunc('hour', local_time) as hour, count(*) as n,
                 sum((totals ->> 'gross_bs')::numeric - (totals ->> 'discount_bs')::numeric) as net_bs,
                 sum((totals ->> 'gross_usd')::numeric - (totals ->> 'discount_usd')::numeric) as net_usd
            from today group by 1) h)
