-- How long raw rows are kept, and from when on compressed: events are compressed after 30 days and dropped after 2 years, in
-- hypertables of TimescaleDB (compressed by its Community edition only). Sales have no rule: they are kept as they are.
-- Dropping is the worker's job and not a retention policy, which would not ask whether everybody has counted the rows.
-- Locks: where events is a hypertable of the Community edition, AccessExclusive on it for milliseconds; else none.
-- Undo: decompresses what was compressed, drops rules and functions. Dropped rows do not come back.

create table pulso.history_rule (
  source text primary key,
  compress_after interval,
  segment_by text,
  order_by text,
  drop_after interval,
  compressing boolean not null default false,
  ran_at timestamptz,
  dropped_to timestamptz,
  held_because text,
  constraint history_rule_compresses_first check (drop_after > compress_after),
  constraint history_rule_keeps_a_day check (drop_after >= interval '1 day' and compress_after >= interval '1 day')
);
comment on table pulso.history_rule is 'How long the rows of a hypertable are kept. Obeyed daily by job keep_history; a table that is no hypertable waits until it is one.';
comment on column pulso.history_rule.compress_after is 'Age at which chunks are compressed, by a policy of TimescaleDB''s Community edition. NULL: never.';
comment on column pulso.history_rule.segment_by is 'Columns whose values are kept together: what queries name with =.';
comment on column pulso.history_rule.drop_after is 'Age at which chunks are dropped. NULL: never.';
comment on column pulso.history_rule.compressing is 'Compression was switched on by this rule; undo switches it off.';
comment on column pulso.history_rule.dropped_to is 'Rows before it were dropped.';
comment on column pulso.history_rule.held_because is 'Why nothing was dropped the last time though there are chunks old enough; NULL when nothing stood in the way.';

create table pulso.history_hold (
  source text not null,
  holder text not null,
  needed_from timestamptz,
  primary key (source, holder)
);
comment on table pulso.history_hold is 'Who still needs rows of a table, such as a warehouse that loads them: nothing from needed_from on is dropped. The holder moves it in the transaction that loads.';
comment on column pulso.history_hold.needed_from is 'NULL: all rows are needed.';

create function pulso.history_held(source regclass) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  reason text;
begin
  if to_regclass('pulso.rollup') is not null then
    execute $q$
      select format('rollup %s %s', r.view, case when not s.live then 'runs its query: it would lose the rows' else 'has changes that nobody has folded for an hour' end)
        from pulso.rollup r join pulso.state s on s.id = r.id
       where ($1 = r.source or $1 = any (r.joined))
         and (not s.live
              or coalesce(s.folded_at, r.created_at) < now() - interval '1 hour' and pulso.pending(r.delta, s.folded_through, s.open_generations) > 0)
       limit 1 $q$ into reason using source;
  end if;
  if reason is null then
    with recursive reads (relation) as (
      select source::oid
       union
      select w.ev_class
        from reads
        join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = reads.relation and d.classid = 'pg_rewrite'::regclass
        join pg_rewrite w on w.oid = d.objid
    )
    select format('materialized view %s adds the rows up anew at each refresh: it would lose them', c.oid::regclass)
      into reason
      from reads join pg_class c on c.oid = reads.relation and c.relkind = 'm'
     limit 1;
  end if;
  if reason is null and current_setting('timescaledb.license', true) = 'timescale' then
    execute $q$
      select format('continuous aggregate %I.%I may be refreshed to nothing where its rows are gone', a.view_schema, a.view_name)
        from timescaledb_information.continuous_aggregates a
       where format('%I.%I', a.hypertable_schema, a.hypertable_name)::regclass = $1
       limit 1 $q$ into reason using source;
  end if;
  return reason;
end
$$;
comment on function pulso.history_held(regclass) is
  'Why old rows of a table must not be dropped yet: who has not counted them, or would lose them. NULL: nobody.';

create function pulso.keep_history() returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '200ms'
as $$
declare
  rule record;
  ts text := (select format('%I', n.nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'timescaledb');
  hypertable boolean;
  compressed boolean;
  cut timestamptz;
  old boolean;
  reason text;
  chunks bigint;
  dropped bigint := 0;
begin
  if ts is null then
    return 0;
  end if;
  for rule in select r.*, to_regclass(r.source) as relation from pulso.history_rule r where to_regclass(r.source) is not null order by r.source loop
    execute 'select count(*) > 0, bool_or(h.compression_enabled) from timescaledb_information.hypertables h
              where format(''%I.%I'', h.hypertable_schema, h.hypertable_name)::regclass = $1'
      into hypertable, compressed using rule.relation;
    continue when not hypertable;
    begin
      if rule.compress_after is not null and not compressed and current_setting('timescaledb.license', true) = 'timescale' then
        execute format('alter table %s set (timescaledb.compress, timescaledb.compress_segmentby = %L, timescaledb.compress_orderby = %L)',
          rule.relation, coalesce(rule.segment_by, ''), coalesce(rule.order_by, ''));
        execute format('select %s.add_compression_policy(%L, compress_after => %L::interval, if_not_exists => true)', ts, rule.relation, rule.compress_after);
        update pulso.history_rule r set compressing = true where r.source = rule.source;
      end if;
      reason := null;
      if rule.drop_after is not null then
        cut := now() - rule.drop_after;
        execute format('select exists (select from %s.show_chunks(%L, older_than => $1))', ts, rule.relation) into old using cut;
        if old then
          select case when bool_or(h.needed_from is null) then '-infinity' else least(cut, min(h.needed_from)) end,
                 'needed by ' || string_agg(h.holder, ', ') filter (where h.needed_from is null or h.needed_from < cut)
            into cut, reason
            from pulso.history_hold h
           where h.source = rule.source
          having count(*) > 0;
          cut := coalesce(cut, now() - rule.drop_after);
          if cut > '-infinity' then
            reason := coalesce(pulso.history_held(rule.relation), reason);
            if reason is null or reason like 'needed by %' then
              execute format('select count(*) from %s.drop_chunks(%L, older_than => $1)', ts, rule.relation) into chunks using cut;
              dropped := dropped + chunks;
              if chunks > 0 then
                update pulso.history_rule r set dropped_to = greatest(r.dropped_to, cut) where r.source = rule.source;
              end if;
            end if;
          end if;
        end if;
      end if;
    exception
      -- One table that is busy does not keep the others.
      when lock_not_available then reason := 'the table is busy; tried again at the next run';
    end;
    update pulso.history_rule r set ran_at = clock_timestamp(), held_because = reason where r.source = rule.source;
  end loop;
  return dropped;
end
$$;
comment on function pulso.keep_history() is
  'Obeys pulso.history_rule: switches compression on, and drops chunks that are old enough once nobody needs their rows. Returns how many were dropped. Run daily by job keep_history.';
revoke execute on function pulso.keep_history() from public;

insert into pulso.history_rule (source, compress_after, segment_by, order_by, drop_after)
values ('public.events', '30 days', 'store_id', 'created_at desc', '2 years');
insert into pulso.job (name, task, command, schedule, time_zone, catch_up, timeout_seconds)
values ('keep_history', 'sql', 'select pulso.keep_history()', 'daily 03:45', 'America/Caracas', 'once', 3600);
