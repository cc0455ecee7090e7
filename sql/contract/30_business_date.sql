-- plpgsql, because it keeps its plan for the session: a SQL function with settings of its own is planned at each statement.
create or replace function analytics.business_date(store_id uuid, at timestamptz default now())
returns date
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (select ((business_date.at at time zone s.time_zone) - s.day_start)::date
            from analytics.stores s
           where s.store_id = business_date.store_id);
end
$$;
comment on function analytics.business_date(uuid, timestamptz) is 'The business date of a shop at an instant, by its time zone and start of day. NULL for an unknown shop.';
