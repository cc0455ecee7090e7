create table public.sales_1d (like public.sales including defaults);
create table public.sales_7d (like public.sales including defaults);
select create_hypertable('public.sales_1d', 'sold_at', chunk_time_interval => interval '1 day');
select create_hypertable('public.sales_7d', 'sold_at', chunk_time_interval => interval '7 days');
insert into public.sales_1d select * from public.sales;
insert into public.sales_7d select * from public.sales;
create index on public.sales_1d (store_id, sold_at desc) where status = 'completed';
create index on public.sales_7d (store_id, sold_at desc) where status = 'completed';
