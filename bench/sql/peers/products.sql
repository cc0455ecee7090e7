select i.product_id, count(*) as n, sum(i.qty) as units, sum(i.qty * i.price) as revenue from public.sale_items i group by i.product_id
