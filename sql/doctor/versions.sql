-- The server's version, and the extension's.
select 'wrong' as severity, 'server' as object,
       format('PostgreSQL %s is older than 15, the oldest that Pulso works on', current_setting('server_version')) as finding,
       'Upgrade the server (pg_upgrade keeps rollups exact).' as cure
 where current_setting('server_version_num')::int < 150000
 union all
select 'note', 'server',
       format('PostgreSQL %s is newer than 18, the newest that Pulso is tested on', current_setting('server_version')),
       'Run `pulso rollup verify` after each upgrade.'
 where current_setting('server_version_num')::int >= 190000
 union all
select 'wrong', 'extension pulso', 'it is not installed on this server',
       'Run `make setup` on the server, or copy pulso.so, pulso.control and pulso--*.sql there.'
 where not exists (select from pg_available_extensions where name = 'pulso')
   -- The tiers plain and timescale do without.
   and to_regclass('pulso.plain_rollup') is null
 union all
select 'wrong', 'extension pulso', 'it is not in this database', 'Run `pulso migrate up`.'
  from pg_available_extensions e
 where e.name = 'pulso' and e.installed_version is null
   and to_regclass('pulso.plain_rollup') is null
 union all
select 'warning', 'extension pulso',
       format('the database has version %s, the server %s', e.installed_version, e.default_version),
       'Run as SQL: alter extension pulso update'
  from pg_available_extensions e
 where e.name = 'pulso' and e.installed_version <> e.default_version
