create or replace view analytics.stores as
select s.id as store_id, s.name, s.time_zone, s.day_start
  from public.stores s;
comment on view analytics.stores is 'The shops, with the clock that dates their sales.';
comment on column analytics.stores.store_id is 'stores.id';
comment on column analytics.stores.time_zone is 'IANA time zone of the shop.';
comment on column analytics.stores.day_start is 'When the business day begins, by the shop''s clock: with 04:00, a sale at 03:00 belongs to yesterday.';
