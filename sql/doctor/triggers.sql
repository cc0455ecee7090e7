-- Triggers that capture changes: missing, or not firing.
with needed as (
  select distinct t.relid, n.name
    from pulso.rollup r
   cross join lateral unnest(r.source || r.joined) as t (relid)
   cross join lateral (
           values ('pulso_insert', true), ('pulso_update', true), ('pulso_delete', true),
                  ('pulso_truncate', t.relid = r.source),
                  ('pulso_begin_insert', r.joined <> '{}'), ('pulso_begin_update', r.joined <> '{}'),
                  ('pulso_begin_delete', r.joined <> '{}')) as n (name, wanted)
   where n.wanted
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
