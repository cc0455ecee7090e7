-- Chunks of the tables that pack timescale has made hypertables, before they are needed: job make_chunks, daily.
-- Locks: none when applied. The job takes ShareRowExclusive, for milliseconds, on what the hypertables refer to; where that is
-- not to be had in 200 ms, it leaves it to its next run.
-- Undo: drops the function and the job.

create function pulso.make_chunks(ahead interval default '28 days') returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '200ms'
as $$
declare
  one record;
  before bigint;
  after bigint;
begin
  if to_regclass('pulso.conversion') is null or to_regclass('timescaledb_information.chunks') is null then
    return 0;
  end if;
  select count(*) into before from timescaledb_information.chunks;
  perform set_config('pulso.make_chunk', 'on', true);
  for one in
    select c.source, c.time_column, d.time_interval as length
      from pulso.conversion c
      join timescaledb_information.dimensions d on to_regclass(format('%I.%I', d.hypertable_schema, d.hypertable_name)) = to_regclass(c.source) and d.dimension_number = 1
     where c.goal = 'hypertable' and c.phase = 'done'
     order by 1
  loop
    begin
      execute format('insert into %s (%I) overriding system value select $1 + n * $2 from generate_series(0, $3) n', one.source, one.time_column)
        using now(), one.length, ceil(extract(epoch from ahead) / extract(epoch from one.length))::integer;
    exception
      when lock_not_available then null;
    end;
  end loop;
  perform set_config('pulso.make_chunk', '', true);
  select count(*) into after from timescaledb_information.chunks;
  return after - before;
end
$$;
comment on function pulso.make_chunks(interval) is
  'Makes the chunks of converted tables for the time ahead; returns how many. A chunk takes ShareRowExclusive on the tables that its foreign keys refer to: in the transaction of a sale that would wait for other sales, and could deadlock with them. Run daily by job make_chunks.';
revoke execute on function pulso.make_chunks(interval) from public;

insert into pulso.job (name, task, command, schedule, time_zone, catch_up, timeout_seconds)
values ('make_chunks', 'sql', 'select pulso.make_chunks()', 'daily 03:15', 'America/Caracas', 'once', 600);
