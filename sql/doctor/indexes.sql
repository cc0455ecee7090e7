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
 union all
select 'warning', format('table %s', k.conrelid::regclass),
       format('no index begins with the columns of %s: each change of a key in %s reads the whole table', k.conname, k.confrelid::regclass),
       format('create index concurrently on %s (%s)', k.conrelid::regclass, c.columns)
  from pg_constraint k
 cross join lateral (
        select string_agg(quote_ident(a.attname), ', ' order by u.n) as columns
          from unnest(k.conkey) with ordinality as u (number, n)
          join pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.number
       ) c
 where k.contype = 'f'
   and k.conparentid = 0
   and pg_relation_size(k.conrelid) > current_setting('doctor.index')::bigint
   and not exists (
         select from pg_index i
          where i.indrelid = k.conrelid and i.indisvalid and i.indpred is null
            and (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey)
 union all
select 'note', format('table %s', s.relid::regclass),
       format('it takes %s and was read whole %s times, %s rows each, against %s reads by an index',
              pg_size_pretty(pg_relation_size(s.relid)), s.seq_scan, s.seq_tup_read / s.seq_scan, coalesce(s.idx_scan, 0)),
       'Find the query (pg_stat_statements, or `pulso serve --explain-slow`) and give it an index.'
  from pg_stat_user_tables s
 where s.seq_scan > 100
   and s.seq_scan > coalesce(s.idx_scan, 0)
   and pg_relation_size(s.relid) > current_setting('doctor.index')::bigint
