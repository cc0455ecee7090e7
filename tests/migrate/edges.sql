-- Days before today, by each shop's own clock; amounts in dollars at 40 Bs.
insert into stores (id, name, day_start) values
  ('00000000-0000-4000-8000-000000000001', 'Abasto', '00:00'),
  ('00000000-0000-4000-8000-000000000002', 'Bar', '04:00'),
  ('00000000-0000-4000-8000-000000000003', 'Vacía', '00:00');
insert into customers (id, document_id) values
  ('00000000-0000-4000-8000-0000000000c1', 'V-1'),
  ('00000000-0000-4000-8000-0000000000c2', 'V-2'),
  ('00000000-0000-4000-8000-0000000000c3', 'V-3');
-- A: plenty. B: none. C: at its threshold. D: below it, never sold. E: no longer sold. F: less than none. G: no threshold. H: as C.
insert into products (id, store_id, name, sku, is_active, current_stock, low_stock_threshold, cost_bs, cost_usd)
select ('00000000-0000-4000-8000-0000000000a' || p.n)::uuid, '00000000-0000-4000-8000-000000000001', p.name, p.name, p.active, p.stock, p.threshold, p.cost * 40, p.cost
  from (values
    (1, 'A', true, 10, 5, 1), (2, 'B', true, 0, 5, 1), (3, 'C', true, 3, 3, 2), (4, 'D', true, 1, 0, 3),
    (5, 'E', false, 50, 60, 1), (6, 'F', true, -2, 0, 1), (7, 'G', true, 2, 0, 2), (8, 'H', true, 13, 13, 1)
  ) as p (n, name, active, stock, threshold, cost);

-- number, shop, days ago, hour, kind, status, dollars, method, customer
create temporary table wanted as
select * from (values
  ('y1', 1, 1, 9, 'sale', 'completed', 10, 'card', 'V-1'),
  ('y2', 1, 1, 10, 'sale', 'completed', 20, 'card', 'V-1'),
  ('y3', 1, 1, 11, 'sale', 'completed', 5, null, null),
  ('y4', 1, 1, 12, 'sale', 'completed', 4, 'unknown', null),
  ('y5', 1, 1, 13, 'return', 'completed', -2, 'card', null),
  ('y6', 1, 1, 14, 'sale', 'voided', 99, 'card', 'V-2'),
  ('w1', 1, 10, 9, 'sale', 'completed', 20, 'card', 'V-2'),
  ('w2', 1, 10, 9, 'sale', 'completed', 20, 'card', 'V-3'),
  ('w3', 1, 40, 9, 'sale', 'completed', 1, 'card', null),
  ('w4', 1, 40, 10, 'sale', 'completed', 1, 'card', null),
  ('w5', 1, 41, 10, 'sale', 'completed', 1, 'card', null),
  ('w6', 1, 41, 11, 'sale', 'completed', 1, 'card', null),
  ('w7', 1, 42, 11, 'sale', 'completed', 1, 'card', null),
  ('old', 1, 400, 11, 'sale', 'completed', 1, 'card', 'V-3'),
  ('b1', 2, 1, 3, 'sale', 'completed', 7, 'card', null),
  ('b2', 2, 2, 3, 'sale', 'completed', 7, 'card', null)
) as w (number, shop, ago, hour, kind, status, usd, method, customer);

insert into sales (store_id, customer_id, number, kind, status, voided_at, sold_at, rate, totals, payment)
select s.id, c.id, w.number, w.kind, w.status, case w.status when 'voided' then now() end,
       (analytics.business_date(s.id) - w.ago + make_interval(hours => w.hour)) at time zone s.time_zone, 40,
       jsonb_build_object('gross_usd', w.usd, 'gross_bs', w.usd * 40, 'total_usd', w.usd, 'total_bs', w.usd * 40, 'items', 1),
       case when w.method is null then '{}' else jsonb_build_object('method', w.method) end
  from wanted w
  join stores s on right(s.id::text, 1) = w.shop::text
  left join customers c on c.document_id = w.customer;

-- Units of A at 2 dollars, B, C and E at 1 (E at 4), F at half a dollar.
insert into sale_items (sale_id, line_no, product_id, qty, unit_price_bs, unit_price_usd)
select s.id, row_number() over (partition by s.id), p.id, l.qty, l.price * 40, l.price
  from (values
    ('y1', 'A', 3, 2), ('y1', 'B', 3, 1), ('y2', 'A', 3, 2), ('y2', 'B', 3, 1), ('y3', 'A', 3, 2), ('y3', 'B', 3, 1),
    ('y4', 'C', 3, 1), ('y5', 'C', -2, 1), ('y6', 'A', 90, 2), ('y6', 'C', 90, 1),
    ('w1', 'A', 3, 2), ('w1', 'C', 3, 1), ('w2', 'C', 3, 1), ('w3', 'A', 3, 2), ('w4', 'A', 3, 2),
    ('w5', 'E', 1, 4), ('w6', 'E', 1, 4), ('w7', 'F', 4, 0.5), ('old', 'G', 5, 1)
  ) as l (number, product, qty, price)
  join sales s on s.number = l.number
  join products p on p.name = l.product;
drop table wanted;
