-- Months out of days; where continuous aggregates keep months already, out of these.
do $contract$
begin
  execute format($view$
create or replace view analytics.sales_monthly as
select d.store_id,
       date_trunc('month', d.sale_date::timestamp)::date as month,
       sum(d.sales_count)::bigint as sales_count,
       sum(d.returns_count)::bigint as returns_count,
       coalesce(sum(d.items), 0) as items,
       coalesce(sum(d.items_sold), 0) as items_sold,
       coalesce(sum(d.gross_bs), 0) as gross_bs,
       coalesce(sum(d.gross_usd), 0) as gross_usd,
       coalesce(sum(d.discounts_bs), 0) as discounts_bs,
       coalesce(sum(d.discounts_usd), 0) as discounts_usd,
       coalesce(sum(d.returns_bs), 0) as returns_bs,
       coalesce(sum(d.returns_usd), 0) as returns_usd,
       coalesce(sum(d.gross_bs - d.discounts_bs - d.returns_bs), 0) as net_bs,
       coalesce(sum(d.gross_usd - d.discounts_usd - d.returns_usd), 0) as net_usd,
       coalesce(sum(d.tax_bs), 0) as tax_bs,
       coalesce(sum(d.tax_usd), 0) as tax_usd,
       coalesce(sum(d.total_bs), 0) as total_bs,
       coalesce(sum(d.total_usd), 0) as total_usd,
       (coalesce(sum(d.gross_bs), 0) - coalesce(sum(d.discounts_bs), 0)) / nullif(sum(d.sales_count), 0) as avg_ticket_bs,
       (coalesce(sum(d.gross_usd), 0) - coalesce(sum(d.discounts_usd), 0)) / nullif(sum(d.sales_count), 0) as avg_ticket_usd
  from %s d
 group by d.store_id, date_trunc('month', d.sale_date::timestamp)::date
  $view$, coalesce(to_regclass('pulso.sales_daily_totals_by_month'), 'analytics.sales_daily_totals'::regclass));
end
$contract$;

comment on view analytics.sales_monthly is 'A shop''s months of business days; columns as in sales_daily.';
comment on column analytics.sales_monthly.month is 'The first day of the month.';
