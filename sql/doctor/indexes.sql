-- Indexes that cost and do not serve.
select 'wrong' as severity, format('index %s', i.indexrelid::regclass) as object,
       'it is invalid: it is written to and never read' as finding,
       format('reindex index concurrently %s; or drop it.', i.indexrelid::regclass) as cure
  from pg_index i
  join pg_class c on c.oid = i.indexrelid
  join pg_namespace n on n.oid = c.relnamespace
 where not i.indisvalid
   and n.nspname not like 'pg\_%'
   and not exists (select from pg_stat_progress_create_index p where p.index_relid = i.indexrelid)
 union all
select 'note', format('index %s', s.indexrelid::regclass),
       format('it has never been read since the statistics began and takes %s', pg_size_pretty(pg_relation_size(s.indexrelid))),
       format('If no standby reads it either: drop index concurrently %s', s.indexrelid::regclass)
  from pg_stat_user_indexes s
  join pg_index i on i.indexrelid = s.indexrelid
 where s.idx_scan = 0
   and i.indisvalid
   and not i.indisunique
   and s.schemaname not in ('pulso')
   and pg_relation_size(s.indexrelid) > current_setting('doctor.index')::bigint
   and not exists (select from pg_constraint k where k.conindid = s.indexrelid)
