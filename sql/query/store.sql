-- One shop and its business date now. $1: its id.
select s.id,
       s.name,
       s.time_zone,
       to_char(s.day_start, 'HH24:MI') as day_start,
       analytics.business_date(s.id) as business_date
  from public.stores s
 where s.id = $1
