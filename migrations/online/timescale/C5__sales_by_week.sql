-- Sales in chunks of a week, likewise, where there are so many that it pays. What is unique without the time, and what
-- lines refer to, is kept in public.sales_keys.
-- Locks: none for long: ShareRowExclusive on it for milliseconds when its changes begin to be mirrored, AccessExclusive for
-- milliseconds when the tables change places, each asked for 200 ms at a time; rows that are being copied wait for their batch.
-- Undo: online, the same way back.

select create_hypertable('public.sales', by_range('sold_at', interval '7 days'));
