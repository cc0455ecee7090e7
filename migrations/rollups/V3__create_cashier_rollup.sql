-- What each cashier rang up and voided, by day, kept exact in the transaction of each sale. A shop's own sales need no column
-- cashier_id: without one of type uuid no rollup is made (docs/adopt.md says how it is made later).
-- Locks: ShareRowExclusive on sales while it fills (readers go on, writers wait): about 2 s per million sales.
-- Undo: select pulso.drop_rollup('analytics.cashier_sales_daily').

do $step$
begin
  if not exists (
    select
      from pg_attribute a
     where a.attrelid = 'public.sales'::regclass
       and a.attname = 'cashier_id'
       and a.atttypid = 'uuid'::regtype
       and not a.attisdropped
  ) then
    raise notice 'public.sales has no column cashier_id of type uuid: analytics.cashier_sales_daily is not made';
    return;
  end if;
  perform pulso.create_rollup('analytics.cashier_sales_daily', $$
  select s.store_id,
         s.business_date as sale_date,
         s.cashier_id,
         count(*) filter (where s.status = 'completed' and s.kind = 'sale') as sales_count,
         count(*) filter (where s.status = 'completed' and s.kind = 'return') as returns_count,
         count(*) filter (where s.status = 'voided') as voids_count,
         sum(case when s.status = 'completed' and s.kind = 'sale' then coalesce(pulso.jsonb_numeric(s.totals, 'items'), 0) else 0 end) as items_sold,
         sum(case when s.status = 'completed' and s.kind = 'sale' then coalesce(pulso.jsonb_numeric(s.totals, 'gross_bs'), 0) else 0 end) as gross_bs,
         sum(case when s.status = 'completed' and s.kind = 'sale' then coalesce(pulso.jsonb_numeric(s.totals, 'gross_usd'), 0) else 0 end) as gross_usd,
         sum(case when s.status = 'completed' and s.kind = 'sale' then coalesce(pulso.jsonb_numeric(s.totals, 'discount_bs'), 0) else 0 end) as discounts_bs,
         sum(case when s.status = 'completed' and s.kind = 'sale' then coalesce(pulso.jsonb_numeric(s.totals, 'discount_usd'), 0) else 0 end) as discounts_usd,
         sum(case when s.status = 'completed' then coalesce(pulso.jsonb_numeric(s.totals, 'gross_bs'), 0) - coalesce(pulso.jsonb_numeric(s.totals, 'discount_bs'), 0) else 0 end) as net_bs,
         sum(case when s.status = 'completed' then coalesce(pulso.jsonb_numeric(s.totals, 'gross_usd'), 0) - coalesce(pulso.jsonb_numeric(s.totals, 'discount_usd'), 0) else 0 end) as net_usd
    from public.sales s
   where s.status in ('completed', 'voided') and s.kind in ('sale', 'return')
   group by 1, 2, 3
$$);
  execute format('comment on %s analytics.cashier_sales_daily is %L',
    (select case c.relkind when 'm' then 'materialized view' else 'view' end from pg_class c where c.oid = 'analytics.cashier_sales_daily'::regclass),
    'What each cashier rang up and voided, by shop and business date; NULL: sales without a cashier.');
end
$step$;
