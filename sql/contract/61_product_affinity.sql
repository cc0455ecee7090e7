create or replace function analytics.product_affinity(store uuid, first date, last date, at_least int default 5)
returns table (
  product_a uuid, product_b uuid, tickets bigint, support_percent numeric,
  confidence_a_percent numeric, confidence_b_percent numeric, lift numeric
)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with bought as materialized (
    select l.sale_id, l.product_id
      from (
            select t.sale_id, t.product_id, count(*) over (partition by t.sale_id) as products
              from analytics.product_sales_tickets t
             where t.store_id = product_affinity.store
               and t.sale_date between product_affinity.first and product_affinity.last
           ) l
     where l.products <= 100
  ), each as materialized (
    select b.product_id, count(*) as tickets from bought b group by b.product_id
  ), pairs as (
    select a.product_id as a, b.product_id as b, count(*) as tickets
      from bought a
      join bought b on b.sale_id = a.sale_id and b.product_id > a.product_id
     group by 1, 2
    having count(*) >= greatest(product_affinity.at_least, 1)
  )
  select p.a, p.b, p.tickets, 100 * p.tickets::numeric / n.tickets, 100 * p.tickets::numeric / a.tickets,
         100 * p.tickets::numeric / b.tickets, p.tickets::numeric * n.tickets / (a.tickets * b.tickets)
    from pairs p
    join each a on a.product_id = p.a
    join each b on b.product_id = p.b
   cross join (select count(distinct x.sale_id) as tickets from bought x) n
   order by 7 desc, 3 desc, 1, 2
$$;
comment on function analytics.product_affinity(uuid, date, date, int) is
  'Products that are bought together in at least `at_least` tickets: support (of all tickets), confidence (of the tickets with one, how many have the other), lift (how much more often than by chance). Tickets of more than 100 products are left out. Its cost grows with the pairs in the tickets of the range.';
