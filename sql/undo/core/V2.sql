-- An extension that somebody else made, such as a superuser for an unprivileged role, stays.
do $$
begin
  drop function if exists pulso.plain_as_of();
  if to_regclass('pulso.aggregate') is not null then
    drop function pulso.create_rollup(text, text, boolean), pulso.create_aggregate(text, text, text, boolean, text),
      pulso.aggregate_calls(boolean), pulso.aggregate_refreshed(text, timestamptz), pulso.timescale_schema();
    drop table pulso.aggregate, pulso.aggregate_source;
    alter function pulso.create_view_rollup(text, text, boolean) rename to create_rollup;
  end if;
  if to_regclass('pulso.plain_rollup') is not null then
    drop function pulso.fold(text), pulso.plain_refresh(), pulso.drop_rollup(text),
      pulso.create_rollup(text, text, boolean), pulso.jsonb_numeric(jsonb, text);
    drop view pulso.rollups;
    drop table pulso.plain_rollup;
  end if;
  if exists (
    select
      from pg_catalog.pg_extension e
     where e.extname = 'pulso'
       and pg_catalog.pg_has_role(e.extowner, 'usage')
  ) then
    drop extension pulso;
  end if;
end
$$;
