do $timescale$
begin
  if to_regclass('pulso.aggregate') is not null then
    create or replace function pulso.drop_rollup(name text) returns void
    language plpgsql volatile strict
    set search_path = pg_catalog, pg_temp
    as $drop$
    declare
      place text := pulso.stored(name);
    begin
      if place <> name then
        execute format('drop view %s', name);
      end if;
      execute format('drop materialized view %s', place);
      delete from pulso.plain_rollup r where r.name = $1;
    end
    $drop$;
  end if;
end
$timescale$;
