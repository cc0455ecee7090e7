-- The last thousand sales of a shop's own table, looked at for what would make figures wrong.
with sampled as materialized (select * from public.sales order by sold_at desc limit 1000)
select format('%s of the last %s sales have no gross_bs and gross_usd in totals: gross, net and tickets would be zero', count(*) filter (where not (s.totals ? 'gross_bs' and s.totals ? 'gross_usd')), count(*))
  from sampled s
having count(*) filter (where not (s.totals ? 'gross_bs' and s.totals ? 'gross_usd')) > 0
union all
select format('%s of the last %s sales have no total_bs and total_usd in totals, or not as numbers', count(*) filter (where jsonb_typeof(s.totals -> 'total_bs') is distinct from 'number' or jsonb_typeof(s.totals -> 'total_usd') is distinct from 'number'), count(*))
  from sampled s
having count(*) filter (where jsonb_typeof(s.totals -> 'total_bs') is distinct from 'number' or jsonb_typeof(s.totals -> 'total_usd') is distinct from 'number') > 0
union all
select format('%s of the last %s sales have no local_time or business_date: they would count on no day', count(*) filter (where s.local_time is null or s.business_date is null), count(*))
  from sampled s
having count(*) filter (where s.local_time is null or s.business_date is null) > 0
union all
select format('no business_date follows sold_at: a trigger before insert on sales is to fill it')
 where not exists (select from pg_trigger t where t.tgrelid = 'public.sales'::regclass and not t.tgisinternal and t.tgtype & 7 = 7)
union all
select format('status %L is in %s of the last sales: only ''completed'' counts', s.status, count(*))
  from sampled s
 where s.status not in ('completed', 'voided', 'pending')
 group by s.status
union all
select format('time zone %L of %s shops is not known to this server', t.time_zone, count(*))
  from public.stores t
 where not exists (select from pg_timezone_names z where lower(z.name) = lower(t.time_zone))
 group by t.time_zone
