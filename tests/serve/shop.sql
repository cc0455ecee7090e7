insert into public.stores (id, name, day_start) values
  ('00000000-0000-4000-8000-000000000001', 'Abasto', '00:00'),
  ('00000000-0000-4000-8000-000000000002', 'Bar', '04:00');
insert into public.customers (id, document_id) values
  ('00000000-0000-4000-8000-0000000000c1', 'V-1'),
  ('00000000-0000-4000-8000-0000000000c2', 'V-2');
insert into public.products (id, store_id, name, sku) values
  ('00000000-0000-4000-8000-0000000000a1', '00000000-0000-4000-8000-000000000001', 'Harina', 'H'),
  ('00000000-0000-4000-8000-0000000000a2', '00000000-0000-4000-8000-000000000001', null, 'C'),
  ('00000000-0000-4000-8000-0000000000a3', '00000000-0000-4000-8000-000000000001', 'Queso', 'Q');

-- Tax is 16 % of what remains after the discount; the rate changes between the days.
insert into public.sales (store_id, customer_id, number, kind, status, voided_at, sold_at, rate, totals, payment)
select case s.shop when 'A' then '00000000-0000-4000-8000-000000000001' else '00000000-0000-4000-8000-000000000002' end::uuid,
       c.id, s.number, s.kind, s.status, case s.status when 'voided' then now() end,
       s.local_time at time zone 'America/Caracas', s.rate,
       jsonb_build_object(
         'gross_usd', s.gross, 'discount_usd', s.discount, 'tax_usd', (s.gross - s.discount) * 0.16, 'total_usd', (s.gross - s.discount) * 1.16,
         'gross_bs', s.gross * s.rate, 'discount_bs', s.discount * s.rate,
         'tax_bs', (s.gross - s.discount) * 0.16 * s.rate, 'total_bs', (s.gross - s.discount) * 1.16 * s.rate,
         'items', s.items),
       case when s.method is null then '{}' else jsonb_build_object('method', s.method) end
  from (values
    ('A', '1', 'sale', 'completed', timestamp '2026-07-30 09:15', 40.125, 10.00, 1.00, 3, 'cash_bs', 'V-1'),
    ('A', '2', 'sale', 'completed', '2026-07-30 09:59:59', 40.125, 33.33, 0.00, 2.5, 'pago_movil', 'V-1'),
    ('A', '3', 'sale', 'completed', '2026-07-30 23:59:59', 40.125, 0.01, 0.00, 1, 'mixed', 'V-2'),
    ('A', '4', 'return', 'completed', '2026-07-30 12:00', 40.125, -5.00, -0.50, -1, 'cash_bs', null),
    ('A', '5', 'sale', 'voided', '2026-07-30 12:10', 40.125, 99.00, 0.00, 9, 'card', 'V-2'),
    ('A', '6', 'adjustment', 'completed', '2026-07-30 12:20', 40.125, 77.00, 0.00, 7, 'card', null),
    ('A', '7', 'sale', 'pending', '2026-07-30 12:30', 40.125, 55.00, 0.00, 5, 'card', null),
    ('A', '8', 'sale', 'completed', '2026-07-31 00:00', 40.250, 7.00, 0.00, 1, null, null),
    ('A', '9', 'sale', 'completed', '2026-07-29 18:00', 40.000, 20.00, 0.00, 4, 'zelle', 'V-2'),
    ('A', '10', 'sale', 'completed', '2026-07-23 18:00', 39.000, 50.00, 5.00, 4, 'zelle', 'V-2'),
    ('B', '1', 'sale', 'completed', '2026-07-30 22:00', 40.125, 12.00, 0.00, 2, 'card', null),
    ('B', '2', 'sale', 'completed', '2026-07-31 03:59:59', 40.250, 8.00, 0.00, 2, 'cash_usd', 'V-1'),
    ('B', '3', 'sale', 'completed', '2026-07-31 04:00', 40.250, 4.00, 0.00, 1, 'card', null),
    ('B', '4', 'sale', 'completed', '2026-07-30 03:00', 40.125, 6.00, 0.00, 1, 'card', null)
  ) as s (shop, number, kind, status, local_time, rate, gross, discount, items, method, customer)
  left join public.customers c on c.document_id = s.customer;

insert into public.sale_items (sale_id, line_no, product_id, qty, unit_price_bs, unit_price_usd, discount_usd, unit_cost_usd)
select s.id, i.line_no, i.product_id::uuid, i.qty, 0, i.price, i.discount, i.cost
  from public.sales s
  join (values
    ('1', 1, '00000000-0000-4000-8000-0000000000a1', 2, 2.50, 1.00, 2.00),
    ('1', 2, '00000000-0000-4000-8000-0000000000a2', 1, 5.00, 0.00, 1.00),
    ('2', 1, '00000000-0000-4000-8000-0000000000a3', 2.5, 13.332, 0.00, 13.00),
    ('4', 1, '00000000-0000-4000-8000-0000000000a2', -1, 5.00, -0.50, 1.00),
    ('5', 1, '00000000-0000-4000-8000-0000000000a2', 9, 11.00, 0.00, 1.00),
    ('9', 1, '00000000-0000-4000-8000-0000000000a1', 4, 5.00, 0.00, 2.00)
  ) as i (number, line_no, product_id, qty, price, discount, cost) on i.number = s.number
 where s.store_id = '00000000-0000-4000-8000-000000000001';
