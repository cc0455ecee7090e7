-- Sales by day, ISO week or month, every period of the range, zeros where nothing was sold.
-- $1: shop; $2, $3: first and last business date; $4: 'day', 'week' or 'month'.
select to_char(p.start, 'YYYY-MM-DD') as period,
       p.start < $2::date or p.start + ('1 ' || $4)::interval > $3::date + interval '1 day' as partial,
       coalesce(d.sales_count, 0)::bigint as sales_count,
       coalesce(d.returns_count, 0)::bigint as returns_count,
       coalesce(d.items, 0)::text as items,
       coalesce(d.gross_bs, 0)::text as gross_bs,
       coalesce(d.gross_usd, 0)::text as gross_usd,
       coalesce(d.discounts_bs, 0)::text as discounts_bs,
       coalesce(d.discounts_usd, 0)::text as discounts_usd,
       coalesce(d.returns_bs, 0)::text as returns_bs,
       coalesce(d.returns_usd, 0)::text as returns_usd,
       coalesce(d.net_bs, 0)::text as net_bs,
       coalesce(d.net_usd, 0)::text as net_usd,
       coalesce(d.tax_bs, 0)::text as tax_bs,
       coalesce(d.tax_usd, 0)::text as tax_usd,
       coalesce(d.total_bs, 0)::text as total_bs,
       coalesce(d.total_usd, 0)::text as total_usd,
       round((d.gross_bs - d.discounts_bs) / nullif(d.sales_count, 0), 4)::text as avg_ticket_bs,
       round((d.gross_usd - d.discounts_usd) / nullif(d.sales_count, 0), 4)::text as avg_ticket_usd
  from generate_series(date_trunc($4, $2::date::timestamp), $3::date::timestamp, ('1 ' || $4)::interval) as p (start)
  left join (
         select date_trunc($4, s.sale_date::timestamp) as start,
                sum(s.sales_count) as sales_count,
                sum(s.returns_count) as returns_count,
                sum(s.items) as items,
                sum(s.gross_bs) as gross_bs,
                sum(s.gross_usd) as gross_usd,
                sum(s.discounts_bs) as discounts_bs,
                sum(s.discounts_usd) as discounts_usd,
                sum(s.returns_bs) as returns_bs,
                sum(s.returns_usd) as returns_usd,
                sum(s.net_bs) as net_bs,
                sum(s.net_usd) as net_usd,
                sum(s.tax_bs) as tax_bs,
                sum(s.tax_usd) as tax_usd,
                sum(s.total_bs) as total_bs,
                sum(s.total_usd) as total_usd
           from analytics.sales_daily s
          where s.store_id = $1
            and s.sale_date between $2 and $3
          group by 1
       ) d on d.start = p.start
 order by p.start
