insert into public.stores (id, name)
select md5('store ' || i)::uuid, 'Tienda ' || lpad(i::text, 2, '0') from generate_series(1, 20) i;
insert into public.customers (id, store_id, document_id)
select md5('customer ' || i)::uuid, md5('store ' || 1 + i % 20)::uuid, 'V-' || i from generate_series(1, 20000) i;
insert into public.cashiers (id, store_id, name)
select md5('cashier ' || s || ' ' || i)::uuid, md5('store ' || s)::uuid, 'Cajera ' || i from generate_series(1, 20) s cross join generate_series(1, 6) i;
