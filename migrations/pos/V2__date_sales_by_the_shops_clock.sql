-- Dates every sale by its shop's clock, whatever the session's time zone is.
-- Locks: CREATE TRIGGER takes ShareRowExclusive on sales (writers wait) for some milliseconds; the table is new.
-- Undo: drop trigger sales_clock on public.sales; drop function public.sales_clock().

create function public.sales_clock() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  select new.sold_at at time zone s.time_zone,
         ((new.sold_at at time zone s.time_zone) - s.day_start)::date
    into new.local_time, new.business_date
    from public.stores s
   where s.id = new.store_id;
  -- An unknown shop leaves both NULL here; the foreign key names it better than this function could.
  if not found then
    new.local_time := new.sold_at at time zone 'UTC';
    new.business_date := new.local_time::date;
  end if;
  return new;
end
$$;
comment on function public.sales_clock() is 'Fills local_time and business_date of a sale from its shop''s time zone and start of day.';

create trigger sales_clock
  before insert or update of store_id, sold_at on public.sales
  for each row execute function public.sales_clock();
