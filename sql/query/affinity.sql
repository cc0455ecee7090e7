-- $1: shop; $2, $3: first and last business date; $4: fewest tickets; $5: at most so many.
select to_jsonb(x)
  from (
        select a.product_a, pa.name as name_a, a.product_b, pb.name as name_b, a.tickets, round(a.support_percent, 2)::text as support_percent,
               round(a.confidence_a_percent, 1)::text as confidence_a_percent, round(a.confidence_b_percent, 1)::text as confidence_b_percent,
               round(a.lift, 2)::text as lift
          from analytics.product_affinity($1, $2, $3, $4) a
          left join public.products pa on pa.id = a.product_a
          left join public.products pb on pb.id = a.product_b
         order by a.lift desc, a.tickets desc, a.product_a, a.product_b
         limit $5
       ) x
