select s.store_id, date_trunc('hour', s.sold_at at time zone 'America/Caracas') as hour, count(*) as n, sum((s.totals ->> 'total')::numeric) as total
  from public.sales s where s.status = 'completed' group by s.store_id, date_trunc('hour', s.sold_at at time zone 'America/Caracas')
