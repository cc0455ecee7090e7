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
  opens interval;
  d record;
  figures jsonb;
begin
  select s.store_id, s.name, s.day_start into dashboard.store_id, dashboard.store_name, opens
    from analytics.stores s where s.store_id = dashboard.store;
  if not found then
    raise exception 'there is no store %', dashboard.store
      using errcode = 'no_data_found', hint = 'The stores are listed by: select store_id, name from analytics.stores';
  end if;
  business_date := coalesce(dashboard.day, analytics.business_date(dashboard.store));

  -- Three small statements: one that joined them would take longer to start than they take together.
  for d in
    select x.sale_date, t.sales_count, t.returns_count, t.items_sold, t.gross_bs, t.gross_usd,
           t.discounts_bs, t.discounts_usd, t.returns_bs, t.returns_usd,
           coalesce(t.net_bs, 0) as net_bs, coalesce(t.net_usd, 0) as net_usd, t.tax_bs, t.tax_usd,
           coalesce(t.total_bs, 0) as total_bs, coalesce(t.total_usd, 0) as total_usd, t.avg_ticket_bs, t.avg_ticket_usd
      from (values (dashboard.business_date), (dashboard.business_date - 1), (dashboard.business_date - 7)) as x (sale_date)
      left join analytics.sales_daily t
        on t.store_id = dashboard.store
       and t.sale_date = x.sale_date
       and t.sale_date in (dashboard.business_date, dashboard.business_date - 1, dashboard.business_date - 7)
  loop
    if d.sale_date = business_date then
      sales_count := coalesce(d.sales_count, 0);
      returns_count := coalesce(d.returns_count, 0);
      items_sold := coalesce(d.items_sold, 0);
      gross_bs := coalesce(d.gross_bs, 0);
      gross_usd := coalesce(d.gross_usd, 0);
      discounts_bs := coalesce(d.discounts_bs, 0);
      discounts_usd := coalesce(d.discounts_usd, 0);
      returns_bs := coalesce(d.returns_bs, 0);
      returns_usd := coalesce(d.returns_usd, 0);
      net_bs := d.net_bs;
      net_usd := d.net_usd;
      tax_bs := coalesce(d.tax_bs, 0);
      tax_usd := coalesce(d.tax_usd, 0);
      total_bs := d.total_bs;
      total_usd := d.total_usd;
      avg_ticket_bs := d.avg_ticket_bs;
      avg_ticket_usd := d.avg_ticket_usd;
      items_per_ticket := d.items_sold / nullif(d.sales_count, 0);
      continue;
    end if;
    figures := jsonb_build_object(
      'business_date', d.sale_date,
      'sales_count', coalesce(d.sales_count, 0),
      'net_bs', d.net_bs::text,
      'net_usd', d.net_usd::text,
      'total_bs', d.total_bs::text,
      'total_usd', d.total_usd::text,
      'avg_ticket_bs', d.avg_ticket_bs::text,
      'avg_ticket_usd', d.avg_ticket_usd::text);
    if d.sale_date = business_date - 1 then
      yesterday := figures;
    else
      last_week := figures;
    end if;
  end loop;

  select coalesce(jsonb_agg(jsonb_build_object(
                    'method', p.method, 'sales_count', p.sales_count,
                    'amount_bs', p.amount_bs::text, 'amount_usd', p.amount_usd::text)
                    order by p.amount_usd desc, p.method), '[]')
    into dashboard.payment_mix
    from analytics.payment_mix_daily p
   where p.store_id = dashboard.store and p.sale_date = dashboard.business_date;

  select coalesce(jsonb_agg(jsonb_build_object(
                    'hour', h.hour, 'sales_count', h.sales_count,
                    'net_bs', h.net_bs::text, 'net_usd', h.net_usd::text)
                    order by h.hour), '[]')
    into dashboard.hourly
    from analytics.sales_hourly h
   where h.store_id = dashboard.store
     and h.hour >= dashboard.business_date + opens
     and h.hour < dashboard.business_date + 1 + opens;

  return next;
end
$$;
comment on function analytics.dashboard(uuid, date) is
  'One row: a shop''s business day (today''s when NULL), its payment mix and hourly curve, against yesterday and the same weekday last week. Money inside jsonb is text, so that no client reads it as a float.';
