-- plpgsql, because each query is looked at only when it is run: a shop's own sales may have no cashier, and then there is no
-- rollup. They are counted where the column came after the migration, until somebody makes the rollup (docs/adopt.md).
create or replace function analytics.cashier_performance(store uuid, first date, last date)
returns table (
  cashier_id uuid, name text, sales_count bigint, returns_count bigint, voids_count bigint, items_sold numeric,
  gross_bs numeric, gross_usd numeric, discounts_bs numeric, discounts_usd numeric, net_bs numeric, net_usd numeric,
  avg_ticket_bs numeric, avg_ticket_usd numeric, items_per_ticket numeric
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  if to_regclass('analytics.cashier_sales_daily') is not null then
    return query
    select t.cashier_id, c.name, t.sales_count, t.returns_count, t.voids_count, t.items_sold, t.gross_bs, t.gross_usd,
           t.discounts_bs, t.discounts_usd, t.net_bs, t.net_usd,
           (t.gross_bs - t.discounts_bs) / nullif(t.sales_count, 0), (t.gross_usd - t.discounts_usd) / nullif(t.sales_count, 0),
           t.items_sold / nullif(t.sales_count, 0)
      from (select d.cashier_id, sum(d.sales_count)::bigint as sales_count, sum(d.returns_count)::bigint as returns_count,
                   sum(d.voids_count)::bigint as voids_count, sum(d.items_sold) as items_sold,
                   sum(d.gross_bs) as gross_bs, sum(d.gross_usd) as gross_usd,
                   sum(d.discounts_bs) as discounts_bs, sum(d.discounts_usd) as discounts_usd,
                   sum(d.net_bs) as net_bs, sum(d.net_usd) as net_usd
              from analytics.cashier_sales_daily d
             where d.store_id = cashier_performance.store
               and pulso.caller_sees(cashier_performance.store)
               and d.sale_date between cashier_performance.first and cashier_performance.last
             group by d.cashier_id) t
      left join public.cashiers c on c.id = t.cashier_id
     order by t.net_usd desc, t.cashier_id;
    return;
  end if;
  return query
  with rung as (
    select s.cashier_id, s.status, s.kind,
           coalesce(pulso.jsonb_numeric(s.totals, 'items'), 0) as items,
           coalesce(pulso.jsonb_numeric(s.totals, 'gross_bs'), 0) as gross_bs,
           coalesce(pulso.jsonb_numeric(s.totals, 'gross_usd'), 0) as gross_usd,
           coalesce(pulso.jsonb_numeric(s.totals, 'discount_bs'), 0) as discount_bs,
           coalesce(pulso.jsonb_numeric(s.totals, 'discount_usd'), 0) as discount_usd
      from public.sales s
     where s.store_id = cashier_performance.store
       and pulso.caller_sees(cashier_performance.store)
       and s.business_date between cashier_performance.first and cashier_performance.last
       and s.status in ('completed', 'voided')
       and s.kind in ('sale', 'return')
  ), summed as (
    select r.cashier_id,
           count(*) filter (where r.status = 'completed' and r.kind = 'sale') as sales_count,
           count(*) filter (where r.status = 'completed' and r.kind = 'return') as returns_count,
           count(*) filter (where r.status = 'voided') as voids_count,
           coalesce(sum(r.items) filter (where r.status = 'completed' and r.kind = 'sale'), 0) as items_sold,
           coalesce(sum(r.gross_bs) filter (where r.status = 'completed' and r.kind = 'sale'), 0) as gross_bs,
           coalesce(sum(r.gross_usd) filter (where r.status = 'completed' and r.kind = 'sale'), 0) as gross_usd,
           coalesce(sum(r.discount_bs) filter (where r.status = 'completed' and r.kind = 'sale'), 0) as discounts_bs,
           coalesce(sum(r.discount_usd) filter (where r.status = 'completed' and r.kind = 'sale'), 0) as discounts_usd,
           coalesce(sum(r.gross_bs - r.discount_bs) filter (where r.status = 'completed'), 0) as net_bs,
           coalesce(sum(r.gross_usd - r.discount_usd) filter (where r.status = 'completed'), 0) as net_usd
      from rung r
     group by r.cashier_id
  )
  select t.cashier_id, c.name, t.sales_count, t.returns_count, t.voids_count, t.items_sold, t.gross_bs, t.gross_usd,
         t.discounts_bs, t.discounts_usd, t.net_bs, t.net_usd,
         (t.gross_bs - t.discounts_bs) / nullif(t.sales_count, 0), (t.gross_usd - t.discounts_usd) / nullif(t.sales_count, 0),
         t.items_sold / nullif(t.sales_count, 0)
    from summed t
    left join public.cashiers c on c.id = t.cashier_id
   order by t.net_usd desc, t.cashier_id;
end
$$;
revoke execute on function analytics.cashier_performance(uuid, date, date) from public;
comment on function analytics.cashier_performance(uuid, date, date) is
  'What each cashier rang up, gave as discount, took back and voided; NULL: sales without a cashier. From analytics.cashier_sales_daily; where that is not made, counted from the sales at each call.';
