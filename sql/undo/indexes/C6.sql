-- Not in a transaction.
drop index concurrently if exists public.events_created_at_brin;
