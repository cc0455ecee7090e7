-- What was compressed comes back as rows; what was dropped does not.
do $$
declare
  rule record;
  ts text := (select format('%I', n.nspname) from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace where e.extname = 'timescaledb');
begin
  for rule in select r.source from pulso.history_rule r where r.compressing and to_regclass(r.source) is not null loop
    execute format('select %s.remove_compression_policy(%L, if_exists => true)', ts, rule.source);
    execute format('select %1$s.decompress_chunk(c, if_compressed => true) from %1$s.show_chunks(%2$L) c', ts, rule.source);
    execute format('alter table %s set (timescaledb.compress = false)', rule.source);
  end loop;
end
$$;
delete from pulso.job where name = 'keep_history';
drop function pulso.keep_history(), pulso.history_held(regclass);
drop table pulso.history_hold, pulso.history_rule;
