-- Transactions that hold everybody up.
select 'warning' as severity, format('backend %s', a.pid) as object,
       format('%s by %s has been open for %s: nothing committed since can be vacuumed, and its deltas are not folded',
              case when a.state like 'idle in transaction%' then 'an idle transaction' else 'a transaction' end,
              coalesce(nullif(a.application_name, ''), a.usename, 'somebody'), date_trunc('second', clock_timestamp() - a.xact_start)) as finding,
       format('Find out what it waits for; select pg_terminate_backend(%s) ends it.', a.pid) as cure
  from pg_stat_activity a
 where a.datname = current_database()
   and a.pid <> pg_backend_pid()
   and a.backend_type = 'client backend'
   and ((a.state like 'idle in transaction%' and clock_timestamp() - a.state_change > current_setting('doctor.idle')::interval)
        or clock_timestamp() - a.xact_start > current_setting('doctor.long')::interval)
 union all
select 'warning', format('prepared transaction %s', p.gid),
       format('it has waited for %s to be committed or rolled back', date_trunc('second', clock_timestamp() - p.prepared)),
       format('commit prepared %L; or: rollback prepared %1$L;', p.gid)
  from pg_prepared_xacts p
 where p.database = current_database()
   and clock_timestamp() - p.prepared > current_setting('doctor.long')::interval
 union all
select 'warning', 'connections', format('%s of %s are in use', n.used, current_setting('max_connections')),
       'Put a pooler (PgBouncer) in front, or raise max_connections.'
  from (select count(*) as used from pg_stat_activity where backend_type = 'client backend') n
 where n.used > current_setting('doctor.connections')::numeric * current_setting('max_connections')::int
