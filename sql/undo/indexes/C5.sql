-- Not in a transaction.
drop index concurrently if exists public.events_store_type_created_at_idx;
