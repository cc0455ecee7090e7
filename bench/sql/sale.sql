-- A sale of a store at this moment.
insert into public.sales (store_id, number, sold_at, rate, totals, payment)
values ($1, $2, now(), 36.5,
        '{"gross_bs": 365, "gross_usd": 10, "discount_bs": 0, "discount_usd": 0, "tax_bs": 58.4, "tax_usd": 1.6, "total_bs": 423.4, "total_usd": 11.6, "items": 2}',
        '{"method": "card"}')
