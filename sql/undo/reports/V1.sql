-- In schema public only what Pulso made.
do $$
declare
  name text;
begin
  foreach name in array array['mv_sales_daily', 'mv_top_products_30d', 'mv_inventory_metrics'] loop
    if obj_description(to_regclass('public.' || name), 'pg_class') like 'Made by Pulso: %' then
      execute format('drop view public.%I', name);
    end if;
  end loop;
  if obj_description(to_regprocedure('public.refresh_analytics_views()'), 'pg_proc') like 'Made by Pulso: %' then
    drop function public.refresh_analytics_views();
  end if;
end
$$;

-- Out from behind their views.
do $$
declare
  one record;
begin
  for one in
    select c.relname as name, 'analytics_all.' || quote_ident(c.relname) as place
      from analytics.report_refresh f
      join pg_class c on c.relname = f.report and c.relkind = 'm' and c.relnamespace = 'analytics_all'::regnamespace
  loop
    execute format('drop view analytics.%I', one.name);
    execute format('alter materialized view %s set schema analytics', one.place);
  end loop;
end
$$;

drop view analytics.report_freshness;
drop function analytics.figures_as_of();
drop function analytics.refresh_analytics_views();
drop function analytics.refresh_report(text);
drop materialized view analytics.sales_weekday_hour, analytics.customer_rfm, analytics.basket_affinity, analytics.sell_through,
  analytics.stock_cover, analytics.product_abc_xyz, analytics.mv_inventory_metrics, analytics.mv_top_products_30d;
drop view analytics.mv_sales_daily, analytics.store_today;
drop table analytics.report_refresh;
