-- TimescaleDB, where it is in this database. Its own catalogs are not asked: they are not there otherwise.
with ts as (
  select e.extversion as version, string_to_array(substring(e.extversion from '^[0-9.]+'), '.')::int[] as numbers,
         current_setting('timescaledb.max_background_workers', true)::int as workers,
         (select count(*) from pg_database d where d.datallowconn and not d.datistemplate) as databases
    from pg_extension e
   where e.extname = 'timescaledb'
)
select 'wrong' as severity,
       format('%s on %s', c.conname, c.conrelid::regclass) as object,
       format('a foreign key to hypertable %s fails from its sixth check in a session on (TimescaleDB %s; mended in 2.21.1)', c.confrelid::regclass, ts.version) as finding,
       format('Update TimescaleDB. Until then: alter database %I set plan_cache_mode = force_custom_plan; or drop the constraint.', current_database()) as cure
  from ts
  join pg_constraint c on c.contype = 'f' and c.conparentid = 0
 where ts.numbers < '{2,21,1}'
   and exists (select from pg_trigger t where t.tgrelid = c.confrelid and t.tgname = 'ts_insert_blocker')
   and current_setting('plan_cache_mode') <> 'force_custom_plan'
 union all
select 'warning', 'timescaledb.max_background_workers',
       format('is %s: %s databases may each need one for its scheduler, and one for each job that is at work', ts.workers, ts.databases),
       format('alter system set timescaledb.max_background_workers = %s; and restart.', ts.databases + 8)
  from ts
 where ts.workers < ts.databases + 2
 union all
select 'wrong', 'shared_preload_libraries', 'lacks timescaledb, which this database uses: whatever needs its library ends the session',
       format('alter system set shared_preload_libraries = %s; and restart.', concat_ws(', ', 'timescaledb', nullif(current_setting('shared_preload_libraries'), '')))
  from ts
 where 'timescaledb' <> all (string_to_array(replace(current_setting('shared_preload_libraries'), ' ', ''), ','))
 union all
select 'note', 'extension timescaledb', format('is %s here; the server''s files are of %s', ts.version, a.default_version),
       'As the first statement of a session: psql -X -c ''alter extension timescaledb update''. Sessions that are open go on with the old one until they connect anew.'
  from ts
  join pg_available_extensions a on a.name = 'timescaledb'
 where a.default_version <> ts.version
 union all
-- As TimescaleDB's own documentation adds them up, and Pulso's launcher and folders.
select 'note', 'max_worker_processes',
       format('is %s: with TimescaleDB''s %s, parallel queries'' %s and a folder for each of %s databases, %s may be asked for; whoever comes last gets none',
              m.slots, ts.workers, m.parallel, ts.databases, m.wanted),
       format('alter system set max_worker_processes = %s; and restart.', m.wanted)
  from ts
 cross join lateral (
         select current_setting('max_worker_processes')::int as slots, current_setting('max_parallel_workers')::int as parallel,
                1 + ts.workers + current_setting('max_parallel_workers')::int + 1 + ts.databases as wanted) as m
 where m.slots < m.wanted
 order by 1 desc, 2
