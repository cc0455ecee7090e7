-- A time span over all shops. Sales come in the order of time, so some kilobytes that note the span of each block will do.
-- Locks: ShareUpdateExclusive on the table (only other DDL and VACUUM wait); waits for transactions that are open.
-- Undo: drop index concurrently.

create index concurrently if not exists sales_sold_at_brin
  on public.sales using brin (sold_at);
