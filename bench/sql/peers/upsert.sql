-- The usual way: statement triggers that add to the totals in place. They know of inserts only.
create function public.add_sales() returns trigger language plpgsql as $$
begin
  insert into analytics.hourly
  select store_id, date_trunc('hour', sold_at at time zone 'America/Caracas'), count(*), sum((totals ->> 'total')::numeric)
    from added where status = 'completed' group by 1, 2 order by 1, 2
  on conflict (store_id, hour) do update set n = hourly.n + excluded.n, total = hourly.total + excluded.total;
  return null;
end $$;
create function public.add_items() returns trigger language plpgsql as $$
begin
  insert into analytics.products
  select product_id, count(*), sum(qty), sum(qty * price) from added group by 1 order by 1
  on conflict (product_id) do update
    set n = products.n + excluded.n, units = products.units + excluded.units, revenue = products.revenue + excluded.revenue;
  insert into analytics.store_days
  select s.store_id, (s.sold_at at time zone 'America/Caracas')::date, count(*), sum(i.qty), sum(i.qty * i.price)
    from added i join public.sales s on s.id = i.sale_id where s.status = 'completed' group by 1, 2 order by 1, 2
  on conflict (store_id, day) do update
    set lines = store_days.lines + excluded.lines, units = store_days.units + excluded.units, revenue = store_days.revenue + excluded.revenue;
  return null;
end $$;
create trigger add_sales after insert on public.sales referencing new table as added for each statement execute function public.add_sales();
create trigger add_items after insert on public.sale_items referencing new table as added for each statement execute function public.add_items();
