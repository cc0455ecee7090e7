select s.store_id, (s.sold_at at time zone 'America/Caracas')::date as day, count(*) as lines, sum(i.qty) as units, sum(i.qty * i.price) as revenue
  from public.sale_items i join public.sales s on s.id = i.sale_id
 where s.status = 'completed' group by s.store_id, (s.sold_at at time zone 'America/Caracas')::date
