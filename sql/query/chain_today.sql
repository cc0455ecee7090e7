-- The latest business date of any of the shops. $1: shops, or NULL for all.
select coalesce(max(analytics.business_date(s.id)), (now() at time zone 'UTC')::date)
  from public.stores s
 where $1::uuid[] is null or s.id = any ($1)
