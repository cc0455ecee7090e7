-- On the tier timescale: rollups over continuous aggregates are dropped with these. Nothing on the other tiers.
-- Locks: none on the shop's tables. Undo: the function as it was.

do $timescale$
begin
  if to_regclass('pulso.aggregate') is null then
    return;
  end if;
  create or replace function pulso.drop_rollup(name text) returns void
  language plpgsql volatile strict
  set search_path = pg_catalog, pg_temp
  as $drop$
  declare
    place text := pulso.stored(name);
    one text;
  begin
    if exists (select from pulso.aggregate a where a.rollup = $1) then
      execute format('drop view %s', name);
      for one in select a.name from pulso.aggregate a where a.rollup = $1 order by a.id desc loop
        execute format('drop materialized view %s', one);
        delete from pulso.aggregate a where a.name = one;
      end loop;
      delete from pulso.aggregate_source s where not exists (select from pulso.aggregate a where a.source = s.name);
      return;
    end if;
    if place <> name then
      execute format('drop view %s', name);
    end if;
    execute format('drop materialized view %s', place);
    delete from pulso.plain_rollup r where r.name = $1;
  end
  $drop$;
end
$timescale$;
