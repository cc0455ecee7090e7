-- Shops by name, one page. $1: id of the last shop of the page before, or NULL; $2: at most so many; $3: of these, or NULL for all.
select s.id,
       s.name,
       s.time_zone,
       to_char(s.day_start, 'HH24:MI') as day_start,
       analytics.business_date(s.id) as business_date
  from public.stores s
 where ($1::uuid is null or (s.name, s.id) > (select l.name, l.id from public.stores l where l.id = $1 and ($3::uuid[] is null or l.id = any ($3))))
   and ($3::uuid[] is null or s.id = any ($3))
 order by s.name, s.id
 limit $2
