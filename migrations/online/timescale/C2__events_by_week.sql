-- Events in chunks of a week. Copied beside the table while everybody goes on, then put in its place.
-- Locks: none for long: ShareRowExclusive on it for milliseconds when its changes begin to be mirrored, AccessExclusive for
-- milliseconds when the tables change places, each asked for 200 ms at a time; rows that are being copied wait for their batch.
-- Undo: online, the same way back.

select create_hypertable('public.events', by_range('created_at', interval '7 days'));
