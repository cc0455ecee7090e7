-- Not in a transaction.
drop index concurrently if exists public.real_time_metrics_created_at_brin;
