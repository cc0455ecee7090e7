create or replace function analytics.chain(stores uuid[], first date, last date)
returns table (
  store_id uuid, store_name text, sales_count bigint, returns_count bigint, items_sold numeric,
  gross_bs numeric, gross_usd numeric, net_bs numeric, net_usd numeric, total_bs numeric, total_usd numeric,
  avg_ticket_bs numeric, avg_ticket_usd numeric, previous_sales_count bigint, previous_net_bs numeric, previous_net_usd numeric
)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select s.store_id, s.name,
         coalesce(sum(d.sales_count) filter (where d.sale_date >= chain.first), 0)::bigint,
         coalesce(sum(d.returns_count) filter (where d.sale_date >= chain.first), 0)::bigint,
         coalesce(sum(d.items_sold) filter (where d.sale_date >= chain.first), 0),
         coalesce(sum(d.gross_bs) filter (where d.sale_date >= chain.first), 0),
         coalesce(sum(d.gross_usd) filter (where d.sale_date >= chain.first), 0),
         coalesce(sum(d.gross_bs - d.discounts_bs - d.returns_bs) filter (where d.sale_date >= chain.first), 0),
         coalesce(sum(d.gross_usd - d.discounts_usd - d.returns_usd) filter (where d.sale_date >= chain.first), 0),
         coalesce(sum(d.total_bs) filter (where d.sale_date >= chain.first), 0),
         coalesce(sum(d.total_usd) filter (where d.sale_date >= chain.first), 0),
         sum(d.gross_bs - d.discounts_bs) filter (where d.sale_date >= chain.first)
           / nullif(sum(d.sales_count) filter (where d.sale_date >= chain.first), 0),
         sum(d.gross_usd - d.discounts_usd) filter (where d.sale_date >= chain.first)
           / nullif(sum(d.sales_count) filter (where d.sale_date >= chain.first), 0),
         coalesce(sum(d.sales_count) filter (where d.sale_date < chain.first), 0)::bigint,
         coalesce(sum(d.gross_bs - d.discounts_bs - d.returns_bs) filter (where d.sale_date < chain.first), 0),
         coalesce(sum(d.gross_usd - d.discounts_usd - d.returns_usd) filter (where d.sale_date < chain.first), 0)
    from analytics.stores s
    left join analytics.sales_daily_totals d
      on d.store_id = s.store_id
     and d.sale_date between chain.first - (chain.last - chain.first + 1) and chain.last
   where chain.stores is null or s.store_id = any (chain.stores)
   group by s.store_id, s.name
   order by 9 desc, s.name
$$;
comment on function analytics.chain(uuid[], date, date) is
  'Shops side by side (all of them when NULL) from the first business date to the last, each against as many days before. Fresh at commit.';
