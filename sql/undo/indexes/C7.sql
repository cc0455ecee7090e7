-- Not in a transaction.
drop index concurrently if exists public.inventory_movements_happened_at_brin;
