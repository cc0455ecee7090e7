-- Triggers that capture changes: missing, or not firing.
with tables as (
  select t.relid, bool_or(t.relid = r.source) as is_counted, bool_or(r.joined <> '{}') as is_joined,
         exists (select from pg_inherits h where h.inhparent = t.relid) or c.relkind = 'p' as has_parts
    from pulso.rollup r
   cross join lateral unnest(r.source || r.joined) as t (relid)
    join pg_class c on c.oid = t.relid
   group by t.relid, c.relkind
), needed as (
  select t.relid, n.name
    from tables t
   cross join lateral (
           values ('pulso_insert', true), ('pulso_update', true), ('pulso_delete', true),
                  -- Of a table in parts, each part has its own.
                  ('pulso_truncate', t.is_counted and not t.has_parts),
                  ('pulso_begin_insert', t.is_joined), ('pulso_begin_update', t.is_joined), ('pulso_begin_delete', t.is_joined)
         ) as n (name, wanted)
   where n.wanted
   union
  -- Whatever else the engine has made, on parts of tables too.
  select g.tgrelid::regclass, g.tgname::text
    from pg_trigger g
   where g.tgfoid in (to_regproc('pulso.capture'), to_regproc('pulso.begin'))
)
select 'wrong' as severity,
       format('%s on %s', n.name, n.relid) as object,
       case when g.oid is null then 'the trigger is missing: changes of the table are not counted'
            else 'the trigger does not fire: changes of the table are not counted' end as finding,
       case when g.oid is null then 'Run `pulso rollup alter` with the same query, which makes it again, then `pulso rollup repair` for each rollup of the table.'
            else format('alter table %s enable trigger %s; then `pulso rollup repair` for each rollup of the table.', n.relid, n.name) end as cure
  from needed n
  left join pg_trigger g on g.tgrelid = n.relid and g.tgname = n.name
 where g.oid is null or g.tgenabled in ('D', 'R')
 order by 2
