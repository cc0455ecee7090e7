-- Sales by hour of the shop's clock, every hour of the business days, zeros where nothing was sold.
-- $1: shop; $2, $3: first and last business date; $4: when the shop's day starts, as HH:MM.
-- The hourly rollup has neither discounts, returns nor tax apart.
select to_char(p.start, 'YYYY-MM-DD"T"HH24:MI:SS') as period,
       false as partial,
       coalesce(h.sales_count, 0) as sales_count,
       coalesce(h.returns_count, 0) as returns_count,
       coalesce(h.items, 0)::text as items,
       coalesce(h.gross_bs, 0)::text as gross_bs,
       coalesce(h.gross_usd, 0)::text as gross_usd,
       null::text as discounts_bs,
       null::text as discounts_usd,
       null::text as returns_bs,
       null::text as returns_usd,
       coalesce(h.net_bs, 0)::text as net_bs,
       coalesce(h.net_usd, 0)::text as net_usd,
       null::text as tax_bs,
       null::text as tax_usd,
       coalesce(h.total_bs, 0)::text as total_bs,
       coalesce(h.total_usd, 0)::text as total_usd,
       null::text as avg_ticket_bs,
       null::text as avg_ticket_usd
  from generate_series(
         $2::date + $4::text::interval,
         $3::date + $4::text::interval + interval '23 hours',
         interval '1 hour') as p (start)
  left join (
         select s.hour,
                s.sales_count,
                s.returns_count,
                s.items,
                s.gross_bs,
                s.gross_usd,
                s.net_bs,
                s.net_usd,
                s.total_bs,
                s.total_usd
           from analytics.sales_hourly s
          where s.store_id = $1
            and s.hour >= $2::date + $4::text::interval
            and s.hour < $3::date + 1 + $4::text::interval
       ) h on h.hour = p.start
 order by p.start
