-- Partitions of the shop's tables that are partitioned by ranges of time, before they are needed: job make_partitions, daily.
-- Locks: none when applied. The job makes a partition as a table of its own and attaches it: ShareUpdateExclusive on the
-- partitioned table, for which no writer and no reader waits, and for milliseconds AccessExclusive on an empty default partition
-- and ShareRowExclusive on what foreign keys refer to; where these are not to be had in 200 ms, it leaves it to its next run.
-- Undo: drops the functions and the job; partitions stay.

create function pulso.sources() returns setof regclass
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regclass('pulso.rollup') is not null then
    return query execute 'select distinct s.source from pulso.rollup r cross join lateral unnest(r.source || r.joined) as s (source)';
  end if;
  return query
    select distinct s.source
      from (select to_regclass(n.name) from unnest('{public.sales,public.sale_items,public.sale_payments,public.events,public.inventory_movements,public.real_time_metrics}'::text[]) as n (name)) as s (source)
     where s.source is not null;
end
$$;
comment on function pulso.sources() is 'The shop''s own tables: those that rollups read, and those of pack pos. Some may come twice.';

create function pulso.partitioned() returns table (
  source regclass, key name, key_type regtype, zone text, step interval, ends_at timestamptz,
  default_partition regclass, default_has_rows boolean, reason text
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set lock_timeout = '200ms'
as $$
declare
  one record;
  last record;
  place text;
  next timestamptz;
  beyond boolean;
  zones text[] := array[current_setting('TimeZone'), 'UTC'];
  partman text := (select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_partman');
begin
  if to_regclass('public.stores') is not null then
    execute 'select $1 || array(select distinct s.time_zone from public.stores s order by 1)' into zones using zones;
  end if;
  for one in
    select distinct c.oid, a.attname, a.atttypid, p.partdefid
      from pulso.sources() s (source)
      join pg_class c on c.oid = s.source and c.relkind = 'p'
      join pg_partitioned_table p on p.partrelid = c.oid and p.partstrat = 'r' and p.partnatts = 1
      join pg_attribute a on a.attrelid = c.oid and a.attnum = p.partattrs[0]
                         and a.atttypid in ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)
     order by c.oid
  loop
    source := one.oid;
    key := one.attname;
    key_type := one.atttypid;
    zone := null;
    step := null;
    ends_at := null;
    default_partition := nullif(one.partdefid, 0);
    default_has_rows := false;
    reason := null;
    begin
      if default_partition is not null then
        execute format('select exists (select from %s)', default_partition) into default_has_rows;
      end if;
      -- Bounds as texts of the key's type; NULL where there is none (MINVALUE, MAXVALUE).
      select array_agg(b.low order by b.high desc) as lows, array_agg(b.high order by b.high desc) as highs,
             bool_or(b.high is null) as endless, (array_agg(b.relkind order by b.high desc))[1] = 'p' as divided
        into last
        from (
          select c.relkind, case when key_type = 'timestamptz'::regtype then f.low::timestamptz else f.low::timestamp at time zone 'UTC' end as low,
                 case when key_type = 'timestamptz'::regtype then f.high::timestamptz else f.high::timestamp at time zone 'UTC' end as high
            from pg_inherits i
            join pg_class c on c.oid = i.inhrelid
           cross join lateral (select pg_get_expr(c.relpartbound, 0) as bound) e
           cross join lateral (
                  select substring(e.bound from 'FROM \(''([^'']*)''\)') as low, substring(e.bound from 'TO \(''([^'']*)''\)') as high
                 ) f
           where i.inhparent = one.oid and e.bound <> 'DEFAULT'
           order by high desc
        ) b;
      ends_at := case when last.endless then 'infinity' else last.highs[1] end;
      -- The length that the last three have, months and days by some clock that the shops go by.
      if last.highs is null then
        reason := 'it has no partition to go by';
      elsif not last.endless then
        -- A clock by which the last one ends at midnight first.
        foreach place in array (
          select array_agg(z.place order by (last.highs[1] at time zone z.place)::time <> '00:00', z.n)
            from unnest(case when key_type = 'timestamptz'::regtype then zones else array['UTC'] end) with ordinality as z (place, n))
        loop
          select s.step into step
            from (select last.lows[1] at time zone place as low, last.highs[1] at time zone place as high) l
           cross join lateral (values (1, age(l.high, l.low)), (2, l.high - l.low)) as s (n, step)
           where (extract(day from s.step) = 0 and extract(epoch from s.step - date_trunc('day', s.step)) = 0
                  or extract(month from s.step) = 0 and extract(year from s.step) = 0)
             and not exists (
                   select from generate_subscripts(last.highs, 1) as k (n)
                    where k.n <= 3 and (last.lows[k.n] at time zone place) + s.step <> (last.highs[k.n] at time zone place))
           order by s.n
           limit 1;
          zone := case when step is not null then place end;
          exit when step is not null;
        end loop;
        if step is null then
          reason := 'its last partitions are not of one length';
        elsif last.divided then
          reason := 'its partitions are partitioned themselves';
        elsif default_has_rows then
          -- Attaching looks through the default partition while nobody may write there.
          if pg_relation_size(default_partition) > 1048576 then
            reason := format('its default partition %s has rows, too many to look through while writers wait', default_partition);
          else
            next := (ends_at at time zone zone + step) at time zone zone;
            execute format('select exists (select from %1$s d where d.%2$I >= %3$L and d.%2$I < %4$L)', default_partition, key,
                case when key_type = 'timestamptz'::regtype then ends_at::text else (ends_at at time zone 'UTC')::text end,
                case when key_type = 'timestamptz'::regtype then next::text else (next at time zone 'UTC')::text end)
              into beyond;
            if beyond then
              reason := format('its default partition %s has rows of the next one''s range', default_partition);
            end if;
          end if;
        end if;
      end if;
    exception
      when lock_not_available then reason := 'it is locked';
    end;
    if partman is not null then
      execute format('select case when exists (select from %I.part_config p where to_regclass(p.parent_table) = $1) then ''pg_partman makes them'' else $2 end', partman)
        into reason using source, reason;
    end if;
    return next;
  end loop;
end
$$;
comment on function pulso.partitioned() is
  'The shop''s tables that are partitioned by ranges of time: the length of their partitions, when the last one ends, and why none can be made ahead (NULL: they can).';

create function pulso.make_partitions(ahead interval default '28 days') returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '200ms'
as $$
declare
  one record;
  made integer := 0;
  low timestamp;
  high timestamp;
  place text;
  relation text;
  owner text;
  partition text;
begin
  for one in select p.* from pulso.partitioned() p where p.reason is null and p.ends_at < now() + ahead order by p.source::text loop
    select n.nspname, c.relname, pg_get_userbyid(c.relowner) into place, relation, owner
      from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = one.source;
    low := one.ends_at at time zone one.zone;
    -- At most sixty at a time: those of an hour are needed for no month ahead.
    for n in 1..60 loop
      exit when low at time zone one.zone >= now() + ahead;
      high := low + one.step;
      partition := format('%I.%I', place, left(relation, 48) || to_char(low, case when one.step < interval '1 day' then '_YYYYMMDD_HH24MI' else '_YYYYMMDD' end));
      begin
        execute format('create table %s (like %s including all excluding identity)', partition, one.source);
        if owner <> current_user then
          execute format('alter table %s owner to %I', partition, owner);
        end if;
        if one.key_type = 'timestamptz'::regtype then
          execute format('alter table %s attach partition %s for values from (%L) to (%L)', one.source, partition, low at time zone one.zone, high at time zone one.zone);
        else
          execute format('alter table %s attach partition %s for values from (%L) to (%L)', one.source, partition, low, high);
        end if;
        made := made + 1;
        low := high;
      exception
        -- One table does not keep the others; `pulso doctor` says when it becomes urgent.
        when lock_not_available then
          raise warning '% is busy: its partitions are made at the next run', one.source;
          exit;
        -- The default partition has rows of this range.
        when check_violation then
          raise warning '%', sqlerrm;
          exit;
      end;
    end loop;
  end loop;
  return made;
end
$$;
comment on function pulso.make_partitions(interval) is
  'Makes the partitions of the shop''s tables for the time ahead, each as long as the last; returns how many. Run daily by job make_partitions.';
revoke execute on function pulso.make_partitions(interval) from public;

insert into pulso.job (name, task, command, schedule, time_zone, catch_up, timeout_seconds)
values ('make_partitions', 'sql', 'select pulso.make_partitions()', 'daily 03:20', 'America/Caracas', 'once', 600);
