-- Where the primary is in its log. All that is visible now was written before the first (a commit that does not wait for
-- the disk may not be on it yet); no position that anybody asks for later is before the second.
select pg_current_wal_insert_lsn() as written,
       pg_current_wal_flush_lsn() as flushed
