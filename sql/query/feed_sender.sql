-- Whether somebody announces each commit in time, and the number given away last (NULL where this role may not know it).
-- That is the extension's worker (settings that an older extension does not have do not count), or a service: one that holds
-- the lock and was busy within the last second. One that was stopped with the lock in its hand does not count.
select (pulso.folder_running()
        and coalesce(current_setting('pulso.fold', true), 'on') = 'on'
        and coalesce(current_setting('pulso.feed_interval', true), '100ms') not in ('0', '0ms'))
       or exists (
            select
              from pg_catalog.pg_locks l
              join pg_catalog.pg_stat_activity a on a.pid = l.pid
             where l.locktype = 'advisory'
               and l.granted
               and (l.classid, l.objid, l.objsubid) = (1886743667, 1, 2)
               and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
               and a.query_start > clock_timestamp() - interval '1 second') as runs,
       case when has_sequence_privilege(to_regclass('pulso.change'), 'select')
            then coalesce(pg_sequence_last_value(to_regclass('pulso.change')), 0) end as last
