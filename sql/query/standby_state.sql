-- How far a standby has come, and what it follows, as sql/query/primary_history.sql tells it of the primary: the timeline
-- that it receives (which not every role may know), else that of what is on its disk.
select pg_is_in_recovery() as standby,
       coalesce(pg_last_wal_replay_lsn(), '0/0') as replayed,
       format('%s/%s', s.system_identifier,
              coalesce((select w.received_tli from pg_catalog.pg_stat_wal_receiver w),
                       nullif(r.min_recovery_end_timeline, 0), c.timeline_id)) as history
  from pg_catalog.pg_control_system() s
 cross join pg_catalog.pg_control_recovery() r
 cross join pg_catalog.pg_control_checkpoint() c
