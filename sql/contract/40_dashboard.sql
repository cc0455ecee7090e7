-- plpgsql, because it keeps its plans for the session: a SQL function would plan four rollups at each call.
create or replace function analytics.dashboard(store uuid, day date default null)
returns table (
  store_id uuid, store_name text, business_date date,
  sales_count bigint, returns_count bigint, items_sold numeric,
  gross_bs numeric, gross_usd numeric,
  discounts_bs numeric, discounts_usd numeric,
  returns_bs numeric, returns_usd numeric,
  net_bs numeric, net_usd numeric,
  tax_bs numeric, tax_usd numeric,
  total_bs numeric, total_usd numeric,
  avg_ticket_bs numeric, avg_ticket_usd numeric,
  items_per_ticket numeric,
  payment_mix jsonb, hourly jsonb, yesterday jsonb, last_week jsonb
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- The shape of the plan does not depend on the shop or the day; planning it takes longer than running it.
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  shop record;
  chosen date;
begin
  select s.id, s.name, s.day_start into shop from public.stores s where s.id = dashboard.store;
  if not found then
    raise exception 'there is no store %', dashboard.store
      using errcode = 'no_data_found', hint = 'The stores are listed by: select id, name from public.stores';
  end if;
  chosen := coalesce(dashboard.day, analytics.business_date(dashboard.store));

  return query
  with days as materialized (
    select x.sale_date, d.sales_count, d.returns_count, d.items_sold, d.gross_bs, d.gross_usd,
           d.discounts_bs, d.discounts_usd, d.returns_bs, d.returns_usd, d.net_bs, d.net_usd,
           d.tax_bs, d.tax_usd, d.total_bs, d.total_usd, d.avg_ticket_bs, d.avg_ticket_usd
      from (values (chosen), (chosen - 1), (chosen - 7)) as x (sale_date)
      left join analytics.sales_daily d
        on d.store_id = dashboard.store
       and d.sale_date = x.sale_date
       and d.sale_date in (chosen, chosen - 1, chosen - 7)
  ), compared as (
    select c.sale_date,
           jsonb_build_object(
             'business_date', c.sale_date,
             'sales_count', coalesce(c.sales_count, 0),
             'net_bs', coalesce(c.net_bs, 0)::text,
             'net_usd', coalesce(c.net_usd, 0)::text,
             'total_bs', coalesce(c.total_bs, 0)::text,
             'total_usd', coalesce(c.total_usd, 0)::text,
             'avg_ticket_bs', c.avg_ticket_bs::text,
             'avg_ticket_usd', c.avg_ticket_usd::text) as figures
      from days c
     where c.sale_date <> chosen
  )
  select shop.id, shop.name, chosen,
         coalesce(t.sales_count, 0), coalesce(t.returns_count, 0), coalesce(t.items_sold, 0),
         coalesce(t.gross_bs, 0), coalesce(t.gross_usd, 0),
         coalesce(t.discounts_bs, 0), coalesce(t.discounts_usd, 0),
         coalesce(t.returns_bs, 0), coalesce(t.returns_usd, 0),
         coalesce(t.net_bs, 0), coalesce(t.net_usd, 0),
         coalesce(t.tax_bs, 0), coalesce(t.tax_usd, 0),
         coalesce(t.total_bs, 0), coalesce(t.total_usd, 0),
         t.avg_ticket_bs, t.avg_ticket_usd,
         t.items_sold / nullif(t.sales_count, 0),
         coalesce((select jsonb_agg(jsonb_build_object(
                            'method', p.method, 'sales_count', p.sales_count,
                            'amount_bs', p.amount_bs::text, 'amount_usd', p.amount_usd::text)
                            order by p.amount_usd desc, p.method)
                     from analytics.payment_mix_daily p
                    where p.store_id = dashboard.store and p.sale_date = chosen), '[]'),
         coalesce((select jsonb_agg(jsonb_build_object(
                            'hour', h.hour, 'sales_count', h.sales_count,
                            'net_bs', h.net_bs::text, 'net_usd', h.net_usd::text)
                            order by h.hour)
                     from analytics.sales_hourly h
                    where h.store_id = dashboard.store
                      and h.hour >= chosen + shop.day_start
                      and h.hour < chosen + 1 + shop.day_start), '[]'),
         (select c.figures from compared c where c.sale_date = chosen - 1),
         (select c.figures from compared c where c.sale_date = chosen - 7)
    from days t
   where t.sale_date = chosen;
end
$$;
comment on function analytics.dashboard(uuid, date) is
  'One row: a shop''s business day (today''s when NULL), its payment mix and hourly curve, against yesterday and the same weekday last week. Money inside jsonb is text, so that no client reads it as a float.';
