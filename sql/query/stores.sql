-- Shops by name, one page. $1, $2: name and id of the last shop of the page before, or NULL; $3: at most so many; $4: of these, or NULL for all.
select s.id,
       s.name,
       s.time_zone,
       to_char(s.day_start, 'HH24:MI') as day_start,
       analytics.business_date(s.id) as business_date
  from public.stores s
 where ($1::text is null or (s.name, s.id) > ($1::text, $2::uuid))
   and ($4::uuid[] is null or s.id = any ($4))
 order by s.name, s.id
 limit $3
