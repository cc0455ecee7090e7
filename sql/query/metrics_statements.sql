-- The ten statements of this database that have taken most time. Their texts have no values, and only a beginning is kept.
select coalesce(s.queryid::text, '') as queryid,
       left(regexp_replace(regexp_replace(s.query, '--[^\n]*', '', 'g'), '\s+', ' ', 'g'), 80) as query,
       s.mean_exec_time / 1000 as mean_seconds,
       s.total_exec_time / 1000 as total_seconds,
       s.calls::float8 as calls
  from pg_stat_statements s
  join pg_database d on d.oid = s.dbid
 where d.datname = current_database()
   and s.toplevel
 order by s.total_exec_time desc
 limit 10
