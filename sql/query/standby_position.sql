-- How far a standby has come. A server that was promoted is none any more.
select pg_is_in_recovery() as standby,
       coalesce(pg_last_wal_replay_lsn(), '0/0') as replayed
