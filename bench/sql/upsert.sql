-- The usual way: a statement trigger that adds to the totals in place.
create schema analytics;
create table analytics.hourly (store_id int, hour timestamp, n bigint, bs numeric, usd numeric, primary key (store_id, hour)) with (fillfactor = 50);
create table analytics.daily (store_id int, day date, n bigint, bs numeric, usd numeric, primary key (store_id, day)) with (fillfactor = 50);
create table analytics.products (product_id int primary key, n bigint, units numeric, bs numeric, usd numeric) with (fillfactor = 50);
insert into analytics.hourly
select store_id, date_trunc('hour', sold_at at time zone 'America/Caracas'), count(*), sum((totals ->> 'total_bs')::numeric), sum((totals ->> 'total_usd')::numeric)
  from public.sales where status = 'completed' group by 1, 2;
insert into analytics.daily
select store_id, (sold_at at time zone 'America/Caracas')::date, count(*), sum((totals ->> 'total_bs')::numeric), sum((totals ->> 'total_usd')::numeric)
  from public.sales where status = 'completed' group by 1, 2;
insert into analytics.products
select product_id, count(*), sum(qty), sum(qty * unit_price_bs), sum(qty * unit_price_usd) from public.sale_items group by 1;

create function public.add_sales() returns trigger language plpgsql as $$
begin
  insert into analytics.hourly
  select store_id, date_trunc('hour', sold_at at time zone 'America/Caracas'), count(*), sum((totals ->> 'total_bs')::numeric), sum((totals ->> 'total_usd')::numeric)
    from added where status = 'completed' group by 1, 2 order by 1, 2
  on conflict (store_id, hour) do update set n = hourly.n + excluded.n, bs = hourly.bs + excluded.bs, usd = hourly.usd + excluded.usd;
  insert into analytics.daily
  select store_id, (sold_at at time zone 'America/Caracas')::date, count(*), sum((totals ->> 'total_bs')::numeric), sum((totals ->> 'total_usd')::numeric)
    from added where status = 'completed' group by 1, 2 order by 1, 2
  on conflict (store_id, day) do update set n = daily.n + excluded.n, bs = daily.bs + excluded.bs, usd = daily.usd + excluded.usd;
  return null;
end $$;
create function public.add_items() returns trigger language plpgsql as $$
begin
  insert into analytics.products
  select product_id, count(*), sum(qty), sum(qty * unit_price_bs), sum(qty * unit_price_usd) from added group by 1 order by 1
  on conflict (product_id) do update
    set n = products.n + excluded.n, units = products.units + excluded.units, bs = products.bs + excluded.bs, usd = products.usd + excluded.usd;
  return null;
end $$;
create trigger add_sales after insert on public.sales referencing new table as added for each statement execute function public.add_sales();
create trigger add_items after insert on public.sale_items referencing new table as added for each statement execute function public.add_items();
