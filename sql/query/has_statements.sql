-- Whether pg_stat_statements is there, is loaded and may be read under this name.
select to_regclass('pg_stat_statements') is not null
   and exists (select from pg_settings s where s.name = 'pg_stat_statements.max')
   and coalesce(has_table_privilege(to_regclass('pg_stat_statements'), 'select'), false)
