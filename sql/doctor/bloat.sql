-- Tables and B-trees that take more than twice what their rows need. $1: spare bytes from which on; $2: at most so many.
-- (relation, is_index, bytes, spare). Estimated, so it leans to the small side: padding inside rows counts as needed.
with columns as (
  select s.schemaname, s.tablename, s.attname, s.null_frac, s.avg_width
    from pg_stats s
   where not s.inherited
), tables as (
  select c.oid, c.oid::regclass::text as relation, c.reltuples, c.relpages, c.relkind,
         coalesce((select o.option_value::numeric from pg_options_to_table(c.reloptions) o where o.option_name = 'fillfactor'), 100) / 100 as filled,
         count(*) as total, count(k.attname) as known,
         sum((1 - k.null_frac) * (k.avg_width + case when a.attlen = 8 then 0 else case a.attalign when 'd' then 3.5 when 'i' then 1.5 when 's' then 0.5 else 0 end end)) as width,
         max(k.null_frac) > 0 as nulls
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    left join columns k on k.schemaname = n.nspname and k.tablename = c.relname and k.attname = a.attname
   where c.relkind in ('r', 'm')
     and n.nspname not like 'pg\_%' and n.nspname <> 'information_schema'
     and c.relpages > 0 and c.reltuples > 0
   group by c.oid
), heaps as (
  select t.relation, false as is_index, pg_relation_size(t.oid) as bytes,
         -- Rows a page as they were when last counted; a header of 23 bytes, the nulls' bits, both aligned to 8, 4 bytes of line pointer.
         pg_relation_size(t.oid) - 8192::numeric * ceil(
           pg_relation_size(t.oid) / 8192 * (t.reltuples / t.relpages)::numeric
           * (8 * ceil((23 + case when t.nulls then ceil(t.total / 8.0) else 0 end) / 8.0) + 8 * ceil(t.width::numeric / 8) + 4)
           / (8168 * t.filled)) as spare
    from tables t
   where t.known = t.total
), indexes as (
  select i.indexrelid::regclass::text as relation, true, pg_relation_size(i.indexrelid) as bytes,
         -- An entry has a header of 8 bytes and 4 of line pointer; leaves have 8192 - 24 - 16 bytes, filled to 90 %.
         pg_relation_size(i.indexrelid) - 8192::numeric * (1 + ceil(
           x.reltuples::numeric * (12 + 8 * ceil(k.width::numeric / 8)) / (8152 * 0.9) * 1.01)) as spare
    from pg_index i
    join pg_class x on x.oid = i.indexrelid and x.relam = (select a.oid from pg_am a where a.amname = 'btree')
    join pg_class c on c.oid = i.indrelid
    join pg_namespace n on n.oid = c.relnamespace
   cross join lateral (
          select sum((1 - s.null_frac) * s.avg_width + case when a.attlen = 8 then 0 else 1.5 end) as width, count(s.attname) as known
            from unnest(i.indkey::int2[]) as u (number)
            join pg_attribute a on a.attrelid = i.indrelid and a.attnum = u.number
            left join columns s on s.schemaname = n.nspname and s.tablename = c.relname and s.attname = a.attname
         ) k
   where i.indisvalid and i.indnatts = k.known
     and x.relkind = 'i' and x.reltuples > 0
     and n.nspname not like 'pg\_%' and n.nspname <> 'information_schema'
)
select f.relation, f.is_index, f.bytes, f.spare::bigint
  from (select * from heaps union all select * from indexes) as f (relation, is_index, bytes, spare)
 where f.spare > $1::bigint and f.spare > f.bytes / 2
 order by f.spare desc
 limit $2::bigint
