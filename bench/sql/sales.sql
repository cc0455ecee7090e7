-- Sales $1 to $2 of $3, over 90 days; the first store has about a quarter of them.
insert into public.sales (store_id, customer_id, cashier_id, number, kind, sold_at, rate, totals, payment)
select md5('store ' || s.store)::uuid,
       case when random() < 0.4 then md5('customer ' || 1 + floor(20000 * random())::int)::uuid end,
       md5('cashier ' || s.store || ' ' || 1 + floor(6 * random())::int)::uuid,
       i::text,
       case when random() < 0.02 then 'return' else 'sale' end,
       date_trunc('day', now()) - (i * 90 / $3) * interval '1 day' + interval '12 hours' + random() * interval '11 hours',
       36.5,
       jsonb_build_object('gross_bs', round(a * 36.5, 2), 'gross_usd', a, 'discount_bs', 0, 'discount_usd', 0,
                          'tax_bs', round(a * 36.5 * 0.16, 2), 'tax_usd', round(a * 0.16, 2),
                          'total_bs', round(a * 36.5 * 1.16, 2), 'total_usd', round(a * 1.16, 2), 'items', 1 + (i % 7)),
       jsonb_build_object('method', (array['card', 'mobile', 'cash_bs', 'cash_usd', 'zelle', 'mixed'])[1 + floor(6 * random())::int])
  from (select i, 1 + floor(20 * power(random(), 2.2))::int as store, round((0.5 + 60 * random())::numeric, 2) as a from generate_series($1::bigint, $2::bigint) i) as s
