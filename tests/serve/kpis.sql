-- Two shops, 70 days, sales at random: the same each time.
select setseed(0.42);
insert into public.stores (id, name, day_start) values
  ('00000000-0000-4000-8000-000000000001', 'Abasto', '00:00'),
  ('00000000-0000-4000-8000-000000000002', 'Bar', '04:00');
insert into public.customers (id, document_id)
select ('00000000-0000-4000-8000-0000000c' || lpad(i::text, 4, '0'))::uuid, 'V-' || i from generate_series(1, 60) i;
insert into public.cashiers (id, store_id, name)
select ('00000000-0000-4000-8000-0000000d' || lpad(i::text, 4, '0'))::uuid,
       ('00000000-0000-4000-8000-00000000000' || (1 + i % 2))::uuid, 'C' || i from generate_series(1, 6) i;
insert into public.products (id, store_id, name, sku, category, is_active, current_stock, low_stock_threshold, cost_bs, cost_usd)
select ('00000000-0000-4000-8000-0000000a' || lpad(i::text, 4, '0'))::uuid,
       ('00000000-0000-4000-8000-00000000000' || (1 + i % 2))::uuid, 'P' || i, 'S' || i,
       (array['Víveres', 'Bebidas', 'Aseo', null])[1 + i / 2 % 4], i % 9 <> 0,
       round((random() * 60)::numeric - 5, 3), (array[0, 10, 30])[1 + i % 3], round((random() * 90)::numeric, 4), round((random() * 3)::numeric, 4)
  from generate_series(1, 60) i;

insert into public.sales (id, store_id, customer_id, cashier_id, number, kind, status, voided_at, sold_at, rate, totals, payment)
select ('00000000-0000-4000-8000-0000' || lpad(x.i::text, 8, '0'))::uuid, x.store,
       case when random() < 0.6 then ('00000000-0000-4000-8000-0000000c' || lpad((1 + floor(random() * 60))::text, 4, '0'))::uuid end,
       case when random() < 0.9 then (select c.id from public.cashiers c where c.store_id = x.store and x.i > 0 order by random() limit 1) end,
       x.i::text, x.kind, x.status, case x.status when 'voided' then now() end,
       timestamptz '2026-05-20 00:00-04' + random() * interval '70 days', 40.125,
       jsonb_build_object(
         'gross_usd', x.sign * x.gross, 'discount_usd', x.sign * x.discount, 'tax_usd', x.sign * (x.gross - x.discount) * 0.16,
         'total_usd', x.sign * (x.gross - x.discount) * 1.16, 'gross_bs', x.sign * x.gross * 40.125, 'discount_bs', x.sign * x.discount * 40.125,
         'tax_bs', x.sign * (x.gross - x.discount) * 6.42, 'total_bs', x.sign * (x.gross - x.discount) * 46.545, 'items', x.sign * x.items),
       jsonb_build_object('method', (array['cash_bs', 'cash_usd', 'pago_movil', 'mixed'])[1 + floor(random() * 4)::int])
  from (
        select i, ('00000000-0000-4000-8000-00000000000' || (1 + floor(random() * 2))::text)::uuid as store,
               k.kind, case k.kind when 'return' then -1 else 1 end as sign,
               (array['completed', 'completed', 'completed', 'completed', 'completed', 'completed', 'completed', 'voided', 'pending'])[1 + floor(random() * 9)::int] as status,
               round((random() * 80)::numeric, 2) as gross, round((random() * random() * 5)::numeric, 2) as discount, 1 + floor(random() * 9)::int as items
          from generate_series(1, 4000) i
         cross join lateral (select (array['sale', 'sale', 'sale', 'sale', 'sale', 'sale', 'sale', 'return', 'adjustment'])[1 + floor(random() * 9 + i * 0)::int] as kind) k
       ) x;

insert into public.sale_items (sale_id, line_no, product_id, qty, unit_price_bs, unit_price_usd, discount_bs, discount_usd, unit_cost_bs, unit_cost_usd)
select s.id, l.n,
       (select p.id from public.products p where p.store_id = s.store_id and s.number <> '' and l.n > 0 order by random() limit 1),
       case s.kind when 'return' then -1 else 1 end * (1 + floor(random() * 4)), round((random() * 800)::numeric, 2), round((random() * 20)::numeric, 2),
       round((random() * 10)::numeric, 2), round(random()::numeric, 2), round((random() * 500)::numeric, 2), round((random() * 12)::numeric, 2)
  from public.sales s
 cross join generate_series(1, 2) as l (n);

insert into public.sale_payments (sale_id, line_no, method, currency, amount, amount_bs, amount_usd)
select s.id, l.n, (array['cash_usd', 'pago_movil'])[l.n], (array['USD', 'BS'])[l.n],
       case l.n when 1 then 1.5 else 80.25 end, case l.n when 1 then 60.1875 else 80.25 end, case l.n when 1 then 1.5 else 2 end
  from public.sales s
 cross join generate_series(1, 2) as l (n)
 where s.payment ->> 'method' = 'mixed' or l.n = 1;
