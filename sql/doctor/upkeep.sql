-- Dead rows that nobody removes, tables whose autovacuum is off, and transaction ids that run out.
select 'warning' as severity, format('table %s', s.relid::regclass) as object,
       format('%s of its %s rows are dead', s.n_dead_tup, s.n_dead_tup + s.n_live_tup) as finding,
       format('vacuum %s; if they come back, an old transaction or a replication slot keeps them.', s.relid::regclass) as cure
  from pg_stat_user_tables s
 where s.n_dead_tup > current_setting('doctor.dead')::bigint
   and s.n_dead_tup > s.n_live_tup
 union all
select 'warning', format('table %s', c.oid::regclass), 'autovacuum is off for it',
       format('alter table %s reset (autovacuum_enabled);', c.oid::regclass)
  from pg_class c
 where c.relkind in ('r', 'm')
   and exists (select from pg_options_to_table(c.reloptions) o where o.option_name = 'autovacuum_enabled' and o.option_value in ('false', 'off', 'no', '0'))
 union all
select 'wrong', format('database %s', d.datname), format('its oldest transaction id is %s transactions old', age(d.datfrozenxid)),
       'Run vacuumdb --freeze on it, and look for what keeps autovacuum from doing so.'
  from pg_database d
 where age(d.datfrozenxid) > current_setting('doctor.age')::bigint
