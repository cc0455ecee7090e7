-- $1: shop; $2: business day. From the sales alone, by the definitions of docs/kpis.md.
select count(*) filter (where s.kind = 'sale')::text as sales_count,
       count(*) filter (where s.kind = 'return')::text as returns_count,
       sum((s.totals ->> 'items')::numeric) filter (where s.kind = 'sale')::text as items_sold,
       sum((s.totals ->> 'gross_bs')::numeric) filter (where s.kind = 'sale')::text as gross_bs,
       sum((s.totals ->> 'gross_usd')::numeric) filter (where s.kind = 'sale')::text as gross_usd,
       sum((s.totals ->> 'discount_bs')::numeric) filter (where s.kind = 'sale')::text as discounts_bs,
       sum((s.totals ->> 'discount_usd')::numeric) filter (where s.kind = 'sale')::text as discounts_usd,
       coalesce(-sum((s.totals ->> 'gross_bs')::numeric - (s.totals ->> 'discount_bs')::numeric) filter (where s.kind = 'return'), 0)::text as returns_bs,
       coalesce(-sum((s.totals ->> 'gross_usd')::numeric - (s.totals ->> 'discount_usd')::numeric) filter (where s.kind = 'return'), 0)::text as returns_usd,
       sum((s.totals ->> 'gross_bs')::numeric - (s.totals ->> 'discount_bs')::numeric)::text as net_bs,
       sum((s.totals ->> 'gross_usd')::numeric - (s.totals ->> 'discount_usd')::numeric)::text as net_usd,
       sum((s.totals ->> 'tax_bs')::numeric)::text as tax_bs,
       sum((s.totals ->> 'tax_usd')::numeric)::text as tax_usd,
       sum((s.totals ->> 'total_bs')::numeric)::text as total_bs,
       sum((s.totals ->> 'total_usd')::numeric)::text as total_usd,
       round(sum((s.totals ->> 'gross_bs')::numeric - (s.totals ->> 'discount_bs')::numeric) filter (where s.kind = 'sale') / count(*) filter (where s.kind = 'sale'), 4)::text as avg_ticket_bs,
       round(sum((s.totals ->> 'gross_usd')::numeric - (s.totals ->> 'discount_usd')::numeric) filter (where s.kind = 'sale') / count(*) filter (where s.kind = 'sale'), 4)::text as avg_ticket_usd,
       round(sum((s.totals ->> 'items')::numeric) filter (where s.kind = 'sale') / count(*) filter (where s.kind = 'sale'), 2)::text as items_per_ticket,
       count(distinct s.customer_id) filter (where s.kind = 'sale')::text as unique_customers
  from public.sales s
  join public.stores t on t.id = s.store_id
 where s.store_id = $1::text::uuid
   and ((s.sold_at at time zone t.time_zone) - t.day_start)::date = $2::text::date
   and s.status = 'completed'
   and s.kind in ('sale', 'return')
