-- Reports as materialized views, the function that refreshes them, and how fresh each is. They are made empty and filled
-- by the next step.
-- Locks: AccessShare on what they read, for milliseconds; nobody waits. Undo: drop them.

create table analytics.report_refresh (
  report text primary key,
  as_of timestamptz,
  took interval,
  refreshed_by text
);
comment on table analytics.report_refresh is 'When each report was refreshed last. Written by analytics.refresh_report; read analytics.report_freshness.';
comment on column analytics.report_refresh.as_of is 'What was committed at this moment is in the report; NULL where it has never been filled.';
comment on column analytics.report_refresh.took is 'How long the last refresh took.';

-- ---------------------------------------------------------------- the plan's three

-- A plain view over the rollups: fresh at commit, for less than a look at a copy that somebody must refresh.
create view analytics.mv_sales_daily as
select d.store_id,
       d.sale_date,
       d.sales_count,
       d.total_bs,
       d.total_usd,
       d.avg_ticket_bs,
       d.avg_ticket_usd,
       d.unique_customers,
       coalesce((
         select jsonb_object_agg(m.method, jsonb_build_object('count', m.sales_count, 'amount_bs', m.amount_bs, 'amount_usd', m.amount_usd))
           from (
                 select coalesce(p.method, 'unknown') as method,
                        sum(p.sales_count) as sales_count,
                        sum(p.amount_bs) as amount_bs,
                        sum(p.amount_usd) as amount_usd
                   from analytics.payment_mix_daily p
                  where p.store_id = d.store_id
                    and p.sale_date = d.sale_date
                  group by 1
                ) as m
       ), '{}') as by_payment_method
  from analytics.sales_daily d;
comment on view analytics.mv_sales_daily is 'A shop''s business day, one row each. A plain view over the rollups: as fresh as they are, at commit with the extension; nothing to refresh.';
comment on column analytics.mv_sales_daily.sales_count is 'Completed sales; returns and voids are not sales.';
comment on column analytics.mv_sales_daily.total_bs is 'Collected: net plus tax, returns deducted.';
comment on column analytics.mv_sales_daily.avg_ticket_bs is '(gross - discounts) / sales_count; NULL without sales.';
comment on column analytics.mv_sales_daily.by_payment_method is '{method: {count, amount_bs, amount_usd}}; a sale without a method is under "unknown".';

-- `offset 0`: once per shop, not per row that is compared with it. The reports read the rollups shop by shop, so that the
-- span of days reaches their indexes.
create view analytics.store_today as
select s.id as store_id, analytics.business_date(s.id) as today, s.day_start
  from public.stores s
offset 0;
comment on view analytics.store_today is 'The business date of each shop now, by its own clock.';

create materialized view analytics.mv_top_products_30d as
select t.product_id,
       p.name as product_name,
       p.category,
       t.store_id,
       t.total_qty_sold,
       t.revenue_bs,
       t.revenue_usd,
       t.times_sold
  from analytics.store_today n
 cross join lateral (
        select d.product_id,
               d.store_id,
               sum(d.units) as total_qty_sold,
               sum(d.revenue_bs) as revenue_bs,
               sum(d.revenue_usd) as revenue_usd,
               sum(d.times_sold)::bigint as times_sold
          from analytics.product_sales_daily d
         where d.store_id = n.store_id
           and d.sale_date > n.today - 30
           and d.sale_date <= n.today
         group by d.product_id, d.store_id
       ) as t
  left join public.products p on p.id = t.product_id
with no data;
create unique index mv_top_products_30d_key on analytics.mv_top_products_30d (store_id, product_id);
create index mv_top_products_30d_qty_idx on analytics.mv_top_products_30d (store_id, total_qty_sold desc);
comment on materialized view analytics.mv_top_products_30d is 'What was sold in the last 30 business days, today included. Returns are not deducted.';
comment on column analytics.mv_top_products_30d.times_sold is 'Sales in which the product appears.';

create materialized view analytics.mv_inventory_metrics as
select s.id as store_id,
       count(p.id) as total_products,
       count(p.id) filter (where p.current_stock <= p.low_stock_threshold and p.low_stock_threshold > 0) as low_stock_count,
       coalesce(sum(p.current_stock * p.cost_bs), 0) as total_stock_value_bs,
       coalesce(sum(p.current_stock * p.cost_usd), 0) as total_stock_value_usd,
       count(p.id) filter (where p.current_stock <= 0) as out_of_stock_count
  from public.stores s
  left join public.products p on p.store_id = s.id and p.is_active
 group by s.id
with no data;
create unique index mv_inventory_metrics_key on analytics.mv_inventory_metrics (store_id);
comment on materialized view analytics.mv_inventory_metrics is 'A shop''s active products and their stock; one row a shop, zeros without products.';
comment on column analytics.mv_inventory_metrics.low_stock_count is 'Stock at or below its threshold, where there is a threshold above zero. Those out of stock are among them.';
comment on column analytics.mv_inventory_metrics.total_stock_value_bs is 'Stock times present cost. Stock below zero, sold before its delivery was booked, counts against it.';
comment on column analytics.mv_inventory_metrics.out_of_stock_count is 'Stock of zero or less.';

-- ---------------------------------------------------------------- products

create materialized view analytics.product_abc_xyz as
with weekly as materialized (
  select w.*
    from analytics.store_today n
   cross join lateral (
          select d.store_id,
                 d.product_id,
                 (n.today - 1 - d.sale_date) / 7 as week,
                 sum(d.units) as units,
                 sum(d.revenue_bs) as revenue_bs,
                 sum(d.revenue_usd) as revenue_usd
            from analytics.product_sales_daily d
           where d.store_id = n.store_id
             and d.sale_date >= n.today - 91
             and d.sale_date < n.today
           group by 1, 2, 3
         ) as w
), sold as (
  select w.store_id,
         w.product_id,
         sum(w.units) as units,
         sum(w.units * w.units) as squares,
         sum(w.revenue_bs) as revenue_bs,
         sum(w.revenue_usd) as revenue_usd
    from weekly w
   group by 1, 2
), listed as (
  select w.store_id, w.product_id from sold w
   union
  select p.store_id, p.id from public.products p where p.is_active
), figures as (
  select l.store_id,
         l.product_id,
         coalesce(w.units, 0) as units,
         coalesce(w.revenue_bs, 0) as revenue_bs,
         coalesce(w.revenue_usd, 0) as revenue_usd,
         -- 13 weeks, those without sales too: (standard deviation / mean)², exact up to here.
         13 * w.squares - w.units * w.units as spread,
         w.units * w.units as mean_square
    from listed l
    left join sold w on w.store_id = l.store_id and w.product_id = l.product_id
), ranked as (
  select f.*,
         sum(greatest(f.revenue_usd, 0)) over (partition by f.store_id) as all_revenue,
         -- Of all that sold strictly more: equals are in one class.
         coalesce(sum(greatest(f.revenue_usd, 0)) over (
           partition by f.store_id order by f.revenue_usd desc
           range between unbounded preceding and current row exclude group), 0) as revenue_above
    from figures f
)
select r.store_id,
       r.product_id,
       p.name as product_name,
       p.category,
       r.units,
       r.revenue_bs,
       r.revenue_usd,
       round(100 * greatest(r.revenue_usd, 0) / nullif(r.all_revenue, 0), 4) as revenue_percent,
       case
         when r.revenue_usd <= 0 then 'C'
         when r.revenue_above * 100 < r.all_revenue * 80 then 'A'
         when r.revenue_above * 100 < r.all_revenue * 95 then 'B'
         else 'C'
       end as abc,
       round(sqrt(r.spread / nullif(r.mean_square, 0)), 4) as variation,
       case
         when r.spread * 4 <= r.mean_square and r.mean_square > 0 then 'X'
         when r.spread <= r.mean_square and r.mean_square > 0 then 'Y'
         else 'Z'
       end as xyz
  from ranked r
  left join public.products p on p.id = r.product_id
with no data;
create unique index product_abc_xyz_key on analytics.product_abc_xyz (store_id, product_id);
comment on materialized view analytics.product_abc_xyz is 'Products by revenue (ABC, 80/15/5) and by how steadily they sell (XYZ), over the 13 weeks up to yesterday.';
comment on column analytics.product_abc_xyz.revenue_percent is 'Share in the shop''s revenue in US dollars; NULL where nothing was sold.';
comment on column analytics.product_abc_xyz.abc is 'A while what sells more makes less than 80 % of the revenue, B less than 95 %, else C. Equal revenue, equal class.';
comment on column analytics.product_abc_xyz.variation is 'Standard deviation of weekly units over their mean, weeks without sales included; NULL without sales.';
comment on column analytics.product_abc_xyz.xyz is 'X: variation up to 0.5; Y: up to 1; Z: above, or without sales.';

create materialized view analytics.stock_cover as
select p.store_id,
       p.id as product_id,
       p.name as product_name,
       p.current_stock,
       coalesce(t.units, 0) as units_90d,
       round(coalesce(t.units, 0) / 90, 4) as daily_units,
       round(90 * greatest(p.current_stock, 0) / nullif(t.units, 0), 1) as days_of_cover
  from public.products p
  left join (
        select n.store_id, d.product_id, d.units
          from analytics.store_today n
         cross join lateral (
                select d.product_id, sum(d.units) as units
                  from analytics.product_sales_daily d
                 where d.store_id = n.store_id
                   and d.sale_date >= n.today - 90
                   and d.sale_date < n.today
                 group by 1
               ) as d
       ) as t on t.store_id = p.store_id and t.product_id = p.id
 where p.is_active
with no data;
create unique index stock_cover_key on analytics.stock_cover (store_id, product_id);
create index stock_cover_days_idx on analytics.stock_cover (store_id, days_of_cover);
comment on materialized view analytics.stock_cover is 'How long the stock of each active product lasts at the rate of the 90 business days up to yesterday.';
comment on column analytics.stock_cover.daily_units is 'Units sold in 90 days, by 90; a product younger than that sells faster than it says.';
comment on column analytics.stock_cover.days_of_cover is 'Stock over daily units; 0 without stock, NULL where nothing was sold.';

create materialized view analytics.sell_through as
select p.store_id,
       p.id as product_id,
       p.name as product_name,
       coalesce(t.units, 0) as units_sold,
       p.current_stock,
       round(100 * coalesce(t.units, 0) / nullif(coalesce(t.units, 0) + greatest(p.current_stock, 0), 0), 2) as sell_through_percent
  from public.products p
  left join (
        select n.store_id, d.product_id, d.units
          from analytics.store_today n
         cross join lateral (
                select d.product_id, sum(d.units) as units
                  from analytics.product_sales_daily d
                 where d.store_id = n.store_id
                   and d.sale_date > n.today - 90
                   and d.sale_date <= n.today
                 group by 1
               ) as d
       ) as t on t.store_id = p.store_id and t.product_id = p.id
 where p.is_active
with no data;
create unique index sell_through_key on analytics.sell_through (store_id, product_id);
comment on materialized view analytics.sell_through is 'What part of the goods a shop had in the last 90 business days, today included, it has sold.';
comment on column analytics.sell_through.sell_through_percent is 'units_sold / (units_sold + current_stock): what was there at first and came in is what was sold and what is left. NULL where there was neither.';

create materialized view analytics.basket_affinity as
with lines as materialized (
  select l.store_id, l.sale_id, l.product_id, l.products
    from analytics.store_today n
   cross join lateral (
          select t.store_id, t.sale_id, t.product_id, count(*) over (partition by t.sale_id) as products
            from analytics.product_sales_tickets t
           where t.store_id = n.store_id
             and t.sale_date >= n.today - 90
             and t.sale_date < n.today
         ) as l
), tickets as (
  select l.store_id, count(distinct l.sale_id) as tickets from lines l where l.products <= 100 group by 1
), singles as materialized (
  select l.store_id, l.product_id, count(*) as tickets from lines l where l.products <= 100 group by 1, 2
), pairs as (
  select a.store_id, a.product_id, b.product_id as other_id, count(*) as tickets
    from lines a
    join lines b on b.sale_id = a.sale_id and b.product_id <> a.product_id
   where a.products <= 100
   group by 1, 2, 3
  having count(*) >= 2
)
select x.store_id,
       x.product_id,
       p.name as product_name,
       x.other_id,
       o.name as other_name,
       x.tickets as tickets_with_both,
       a.tickets as tickets_with_product,
       b.tickets as tickets_with_other,
       n.tickets as tickets,
       round(x.tickets::numeric / n.tickets, 6) as support,
       round(x.tickets::numeric / a.tickets, 6) as confidence,
       round(x.tickets::numeric * n.tickets / (a.tickets * b.tickets), 4) as lift
  from pairs x
  join singles a on a.store_id = x.store_id and a.product_id = x.product_id
  join singles b on b.store_id = x.store_id and b.product_id = x.other_id
  join tickets n on n.store_id = x.store_id
  left join public.products p on p.id = x.product_id
  left join public.products o on o.id = x.other_id
with no data;
create unique index basket_affinity_key on analytics.basket_affinity (store_id, product_id, other_id);
create index basket_affinity_lift_idx on analytics.basket_affinity (store_id, product_id, lift desc);
comment on materialized view analytics.basket_affinity is 'Who buys the product also buys the other: pairs seen in two tickets or more of the 90 business days up to yesterday. Tickets of more than 100 products are left out.';
comment on column analytics.basket_affinity.support is 'Tickets with both, of all tickets.';
comment on column analytics.basket_affinity.confidence is 'Tickets with both, of those with the product.';
comment on column analytics.basket_affinity.lift is 'How many times likelier the other is in a ticket with the product than in any; above 1 they go together.';

-- ---------------------------------------------------------------- customers and hours

create materialized view analytics.customer_rfm as
with seen as (
  select c.*
    from analytics.store_today n
   cross join lateral (
          select k.store_id,
                 k.customer_id,
                 n.today - max(k.sale_date) as recency_days,
                 sum(k.sales_count)::bigint as sales_count,
                 sum(k.total_bs) as total_bs,
                 sum(k.total_usd) as total_usd
            from analytics.customer_sales_daily k
           where k.store_id = n.store_id
             and k.sale_date > n.today - 365
             and k.sale_date <= n.today
           group by k.store_id, k.customer_id
         ) as c
), scored as (
  -- Fifths by how many customers are strictly worse: equals have equal scores.
  select c.*,
         (1 + 5 * (rank() over (partition by c.store_id order by c.recency_days desc) - 1)
              / count(*) over (partition by c.store_id))::integer as recency,
         (1 + 5 * (rank() over (partition by c.store_id order by c.sales_count) - 1)
              / count(*) over (partition by c.store_id))::integer as frequency,
         (1 + 5 * (rank() over (partition by c.store_id order by c.total_usd) - 1)
              / count(*) over (partition by c.store_id))::integer as monetary
    from seen c
)
select c.store_id,
       c.customer_id,
       c.recency_days,
       c.sales_count,
       c.total_bs,
       c.total_usd,
       c.recency,
       c.frequency,
       c.monetary,
       case
         when c.recency >= 4 and c.frequency >= 4 and c.monetary >= 4 then 'champion'
         when c.recency >= 3 and c.frequency >= 4 then 'loyal'
         when c.recency >= 4 then 'recent'
         when c.recency <= 2 and (c.frequency >= 4 or c.monetary >= 4) then 'at risk'
         when c.recency <= 2 then 'lost'
         else 'regular'
       end as segment
  from scored c
with no data;
create unique index customer_rfm_key on analytics.customer_rfm (store_id, customer_id);
comment on materialized view analytics.customer_rfm is 'Customers of a shop by recency, frequency and money of the last 365 business days, each from 1 to 5. Sales without a customer are not in it.';
comment on column analytics.customer_rfm.recency_days is 'Business days since the last sale; 0 is today.';
comment on column analytics.customer_rfm.total_usd is 'Collected from the customer, tax included; ranks in `monetary`, since bolívares of two days are not worth the same.';
comment on column analytics.customer_rfm.recency is '5 is latest: fifths by how many of the shop''s customers are strictly worse. Equals have equal scores.';
comment on column analytics.customer_rfm.segment is 'champion: all three at 4 or 5; loyal: recency from 3, frequency from 4; recent: recency from 4; at risk: recency to 2, yet frequency or money from 4; lost: recency to 2; else regular.';

create materialized view analytics.sales_weekday_hour as
select s.id as store_id,
       w.weekday,
       h.hour,
       coalesce(t.sales_count, 0)::bigint as sales_count,
       coalesce(t.net_bs, 0) as net_bs,
       coalesce(t.net_usd, 0) as net_usd,
       round(coalesce(t.sales_count, 0) / 12, 2) as avg_sales
  from public.stores s
 cross join generate_series(1, 7) as w (weekday)
 cross join generate_series(0, 23) as h (hour)
  left join (
        select g.*
          from analytics.store_today n
         cross join lateral (
                select g.store_id,
                       extract(isodow from g.hour - n.day_start)::integer as weekday,
                       extract(hour from g.hour)::integer as hour,
                       sum(g.sales_count) as sales_count,
                       sum(g.net_bs) as net_bs,
                       sum(g.net_usd) as net_usd
                  from analytics.sales_hourly g
                 where g.store_id = n.store_id
                   and g.hour >= n.today - 84 + n.day_start
                   and g.hour < n.today + n.day_start
                 group by 1, 2, 3
               ) as g
       ) as t on t.store_id = s.id and t.weekday = w.weekday and t.hour = h.hour
with no data;
create unique index sales_weekday_hour_key on analytics.sales_weekday_hour (store_id, weekday, hour);
comment on materialized view analytics.sales_weekday_hour is 'The 12 weeks up to yesterday by weekday and hour of the shop''s clock: 168 rows a shop, zeros included.';
comment on column analytics.sales_weekday_hour.weekday is 'Of the business date: 1 is Monday, 7 Sunday. At 03:00 a bar that opens its day at 04:00 still has the day before.';
comment on column analytics.sales_weekday_hour.avg_sales is 'Sales in such an hour: sales_count / 12.';

insert into analytics.report_refresh (report)
values ('mv_top_products_30d'), ('mv_inventory_metrics'), ('product_abc_xyz'), ('customer_rfm'), ('basket_affinity'),
       ('sales_weekday_hour'), ('stock_cover'), ('sell_through');

-- ---------------------------------------------------------------- refreshing

create function analytics.refresh_report(report text) returns boolean
language plpgsql volatile strict security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  called timestamptz := clock_timestamp();
  began timestamptz;
  filled boolean;
begin
  if not exists (select from analytics.report_refresh f where f.report = refresh_report.report) then
    raise exception 'there is no report %', report
      using errcode = 'undefined_object', hint = 'See: select report from analytics.report_freshness';
  end if;
  perform pg_advisory_xact_lock(1886743663, hashtext(report));
  -- Somebody refreshed it while this call waited: all that was committed at the call is in it. But not what the calling
  -- transaction itself has written.
  if pg_current_xact_id_if_assigned() is null
     and exists (select from analytics.report_refresh f where f.report = refresh_report.report and f.as_of > called) then
    return false;
  end if;
  select c.relispopulated into filled from pg_class c where c.oid = format('analytics.%I', report)::regclass;
  began := clock_timestamp();
  execute format('refresh materialized view %s analytics.%I', case when filled then 'concurrently' else '' end, report);
  update analytics.report_refresh f
     set as_of = began, took = clock_timestamp() - began, refreshed_by = session_user
   where f.report = refresh_report.report;
  return true;
end
$$;
comment on function analytics.refresh_report(text) is
  'Refreshes one report while readers go on; false where another call did so meanwhile.';

create function analytics.refresh_analytics_views() returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  name text;
begin
  -- Without the extension the rollups under the reports are materialized views too.
  if to_regprocedure('pulso.plain_refresh()') is not null then
    execute 'select pulso.plain_refresh()';
  end if;
  for name in select f.report from analytics.report_refresh f order by f.report loop
    perform analytics.refresh_report(name);
  end loop;
end
$$;
comment on function analytics.refresh_analytics_views() is
  'Refreshes every report while readers go on. With the extension mv_sales_daily needs none: it is fresh at commit.';

-- Refreshing costs the server time: whoever may do it is told so.
revoke execute on function analytics.refresh_report(text), analytics.refresh_analytics_views() from public;

create function analytics.figures_as_of() returns timestamptz
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  as_of timestamptz := clock_timestamp();
begin
  if to_regprocedure('pulso.plain_as_of()') is not null then
    execute 'select pulso.plain_as_of()' into as_of;
  end if;
  return as_of;
end
$$;
comment on function analytics.figures_as_of() is
  'What was committed at this moment is in the views of the contract: now with the extension, the last refresh without.';

create view analytics.report_freshness as
select f.report,
       f.as_of,
       clock_timestamp() - f.as_of as age,
       f.took,
       f.refreshed_by
  from analytics.report_refresh f
 union all
select 'mv_sales_daily', n.as_of, greatest(clock_timestamp() - n.as_of, interval '0'), null, null
  from (select analytics.figures_as_of() as as_of offset 0) as n;
comment on view analytics.report_freshness is 'How old each report is. One that was never filled has no as_of; with the extension mv_sales_daily is always fresh.';
comment on column analytics.report_freshness.as_of is 'What was committed at this moment is in the report.';
comment on column analytics.report_freshness.took is 'How long the last refresh took.';

-- Where callers look: the plan's names as they are written there. What is there already stays.
do $$
declare
  name text;
begin
  if not has_schema_privilege('public', 'create') then
    raise notice 'no names in schema public: the role may not create there';
    return;
  end if;
  foreach name in array array['mv_sales_daily', 'mv_top_products_30d', 'mv_inventory_metrics'] loop
    if to_regclass('public.' || name) is null then
      execute format('create view public.%1$I as select * from analytics.%1$I', name);
      execute format('comment on view public.%1$I is %2$L', name, 'Made by Pulso: analytics.' || name || ', where it is looked for.');
    end if;
  end loop;
  if to_regprocedure('public.refresh_analytics_views()') is null then
    create function public.refresh_analytics_views() returns void
    language sql volatile
    set search_path = pg_catalog, pg_temp
    as 'select analytics.refresh_analytics_views()';
    comment on function public.refresh_analytics_views() is 'Made by Pulso: analytics.refresh_analytics_views(), where it is looked for.';
  end if;
end
$$;
