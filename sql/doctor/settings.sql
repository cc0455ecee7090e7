-- Settings that harm.
select w.severity, w.name as object, format('is %s: %s', s.setting || coalesce(' ' || s.unit, ''), w.why) as finding, w.cure
  from pg_settings s
  join (values
         ('autovacuum', 'wrong', 'folded deltas and dead rows are never cleaned up', 'alter system set autovacuum = on; select pg_reload_conf();'),
         ('track_counts', 'wrong', 'autovacuum cannot know what to clean up', 'alter system set track_counts = on; select pg_reload_conf();'),
         ('fsync', 'wrong', 'a crash of the machine can destroy the database', 'alter system set fsync = on; select pg_reload_conf();'),
         ('full_page_writes', 'wrong', 'a crash of the machine can destroy the database', 'alter system set full_page_writes = on; select pg_reload_conf();'),
         ('jit', 'note', 'short statements lose by compiling', 'alter system set jit = off; select pg_reload_conf();'),
         ('track_activities', 'warning', 'nobody can see what sessions do', 'alter system set track_activities = on; select pg_reload_conf();'),
         ('session_replication_role', 'wrong', 'changes made so are not captured', 'reset session_replication_role; look also at: alter role … reset session_replication_role'),
         ('idle_in_transaction_session_timeout', 'note', 'a forgotten transaction holds up vacuum and folding for ever', 'alter system set idle_in_transaction_session_timeout = ''10min''; select pg_reload_conf();'),
         ('max_worker_processes', 'warning', 'too few for a folder in each database beside parallel queries', 'alter system set max_worker_processes = 16; and restart.'),
         ('autovacuum_naptime', 'note', 'folded deltas leave dead rows in seconds', 'alter system set autovacuum_naptime = ''10s''; select pg_reload_conf();')
       ) as w (name, severity, why, cure) on w.name = s.name
 where case s.name
         when 'jit' then s.setting = 'on'
         when 'session_replication_role' then s.setting = 'replica'
         when 'idle_in_transaction_session_timeout' then s.setting = '0'
         when 'max_worker_processes' then s.setting::int < (
                select 4 + 1 + count(*) from pg_database d where d.datallowconn and not d.datistemplate)
         when 'autovacuum_naptime' then s.setting::int > 60
         else s.setting = 'off'
       end
 order by 1 desc, 2
