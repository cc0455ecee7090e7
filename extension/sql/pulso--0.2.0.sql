-- The engine's SQL objects. Written by hand; a test compares the C functions here with the library's symbols.
\echo Use "create extension pulso" to load this file. \quit

-- Names in this script mean what they say, whatever the schemas of others hold.
set local search_path = pg_catalog, pg_temp;

grant usage on schema pulso to public;

-- ---------------------------------------------------------------- catalog
-- `regclass` columns dump as names and survive renames; ids are never reused.

create table pulso.rollup (
  id integer generated always as identity primary key,
  view regclass not null,
  definition regclass not null,
  source regclass not null,
  base regclass not null,
  delta regclass not null,
  created_at timestamptz not null default pg_catalog.now(),
  replaces integer,
  joined regclass[] not null default '{}',
  companion_of integer,
  partitions regclass[] not null default '{}',
  shows_all_rows boolean not null default false,
  constraint rollup_view_key unique (view)
);
comment on table pulso.rollup is 'One row per rollup. Written by the functions of this schema only; read pulso.rollups.';
comment on column pulso.rollup.view is 'The view that people query.';
comment on column pulso.rollup.definition is 'A view of the rollup''s query: it lets Postgres track renames and dependencies, and is what verify compares with.';
comment on column pulso.rollup.source is 'The table whose rows are counted.';
comment on column pulso.rollup.joined is 'The tables that are joined to it.';
comment on column pulso.rollup.companion_of is 'The rollup that it is a part of: it counts the values that its count(distinct), min, max or percentiles need; NULL for a whole one.';
comment on column pulso.rollup.shows_all_rows is 'Its owner has said (pulso.allow_row_security) that whoever may read it may see figures of all rows, row security or not.';
comment on column pulso.rollup.partitions is 'The partitions of the source, at every level, whose rows are counted and whose triggers are there.';
comment on column pulso.rollup.base is 'Groups folded so far.';
comment on column pulso.rollup.delta is 'Changes not folded yet.';
comment on column pulso.rollup.replaces is 'The rollup whose place it takes once it is built; NULL but while pulso.alter_rollup is at work.';
create index rollup_source_idx on pulso.rollup (source);

create table pulso.state (
  id integer,
  live boolean not null default true,
  reason text,
  folded_through bigint not null default 0,
  open_generations bigint[] not null default '{}',
  folded_at timestamptz,
  -- One row a rollup. With what is folded in the key, nobody comes past the thousands that an old snapshot keeps: a reader begins at the
  -- last one, or at its own, and a folder puts the next one beside the last.
  constraint state_id_folded_through_key primary key (id, folded_through)
) with (fillfactor = 50);
comment on table pulso.state is 'What has been folded, read by each rollup''s view in the reader''s own snapshot.';
comment on column pulso.state.live is 'false: the view runs its query instead; `reason` says why.';
comment on column pulso.state.folded_through is 'Deltas of generations up to this one are folded, or compacted into a later one, but for open_generations.';
comment on column pulso.state.open_generations is 'Generations at or below folded_through that a transaction still held when it was folded.';

-- A dump brings base and deltas as they were, and each trigger after the rows of its table: all fits. But where rows
-- are loaded into a table whose triggers are there already, each is captured on top of a base that counts it. So a
-- table with triggers must hold rows from before them. Looked at when the later of a rollup's two rows is loaded: a
-- parallel restore takes the tables in either order, or both at once, and so there is no foreign key between them.
create function pulso.is_loaded_beside_triggers(source regclass) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  rows_age integer;
begin
  execute pg_catalog.format('select pg_catalog.age(t.xmin) from %s t limit 1', source) into rows_age;
  return exists (
    select from pg_catalog.pg_trigger t
     where t.tgrelid = source
       and t.tgfoid = 'pulso.capture'::pg_catalog.regproc
       and t.tgenabled <> 'D'
       and coalesce(rows_age <= pg_catalog.age(t.xmin), true)
  );
end
$$;
comment on function pulso.is_loaded_beside_triggers(regclass) is 'Whether the rows of a table were loaded while its changes were being captured.';

create function pulso.state_is_loaded() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  source regclass;
begin
  perform pg_catalog.pg_advisory_xact_lock(20560, new.id);
  select r.source into source from pulso.rollup r where r.id = new.id;
  if found and pulso.is_loaded_beside_triggers(source) then
    new.live := false;
    new.reason := 'loaded into a table whose changes were being captured; pulso.repair(name) builds it anew';
  end if;
  return new;
end
$$;
comment on function pulso.state_is_loaded() is
  'Turns a rollup into its query when its data are loaded beside triggers that capture the load.';
-- The engine itself inserts what is not live yet.
create trigger state_is_loaded before insert on pulso.state
  for each row when (new.live) execute function pulso.state_is_loaded();

create function pulso.rollup_is_loaded() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform pg_catalog.pg_advisory_xact_lock(20560, new.id);
  if exists (select from pulso.state s where s.id = new.id and s.live) and pulso.is_loaded_beside_triggers(new.source) then
    update pulso.state
       set live = false, reason = 'loaded into a table whose changes were being captured; pulso.repair(name) builds it anew'
     where id = new.id;
  end if;
  return null;
end
$$;
comment on function pulso.rollup_is_loaded() is 'The same where the row of pulso.rollup comes after that of pulso.state.';
create trigger rollup_is_loaded after insert on pulso.rollup
  for each row execute function pulso.rollup_is_loaded();

create sequence pulso.generation as bigint cache 1;
comment on sequence pulso.generation is 'The generation that writers put on their deltas; advanced by folding only.';
select pg_catalog.nextval('pulso.generation');

create table pulso.visible_through (
  snapshot_xmax bigint not null,
  generation bigint not null
);
create index visible_through_snapshot_xmax_idx on pulso.visible_through (snapshot_xmax);
comment on table pulso.visible_through is 'What old snapshots need not look at. Facts about transactions of this cluster, which a dump does not carry.';
comment on column pulso.visible_through.snapshot_xmax is 'A snapshot with a smaller xmax …';
comment on column pulso.visible_through.generation is '… sees no delta of a later generation.';

create function pulso.last_visible_generation() returns bigint
language c stable parallel restricted
as 'MODULE_PATHNAME', 'last_visible_generation_wrapper';
comment on function pulso.last_visible_generation() is
  'The last generation of which the snapshot may see deltas; the highest number but in REPEATABLE READ without deltas of its own.';

create function pulso.is_live(id integer) returns boolean
language c stable strict parallel safe
as 'MODULE_PATHNAME', 'is_live_wrapper';
comment on function pulso.is_live(integer) is
  'Whether a rollup is read from what is folded, in the caller''s snapshot. It and the next two look pulso.state up once for a snapshot, where subqueries would at each mention.';

create function pulso.folded_through(id integer) returns bigint
language c stable strict parallel safe
as 'MODULE_PATHNAME', 'folded_through_wrapper';
comment on function pulso.folded_through(integer) is 'pulso.state.folded_through of a rollup, in the caller''s snapshot.';

create function pulso.open_generations(id integer) returns bigint[]
language c stable strict parallel safe
as 'MODULE_PATHNAME', 'open_generations_wrapper';
comment on function pulso.open_generations(integer) is 'pulso.state.open_generations of a rollup, in the caller''s snapshot.';

select pg_catalog.pg_extension_config_dump('pulso.rollup', '');
select pg_catalog.pg_extension_config_dump('pulso.rollup_id_seq', '');
select pg_catalog.pg_extension_config_dump('pulso.state', '');
select pg_catalog.pg_extension_config_dump('pulso.generation', '');

-- ---------------------------------------------------------------- values

create function pulso.jsonb_numeric(document jsonb, key text) returns numeric
language c immutable strict parallel safe
as 'MODULE_PATHNAME', 'jsonb_numeric_wrapper';
comment on function pulso.jsonb_numeric(jsonb, text) is
  'The number at a key of a JSON object; NULL where there is none or it is not a number. Never an error, so it cannot fail a sale.';

-- Inlined by the planner; the specials follow what sum(numeric) does.
create function pulso.sum_of(present bigint, total numeric, nans bigint, infinities bigint, negative_infinities bigint)
returns numeric
language sql immutable parallel safe
return case
  when present = 0 then null
  when nans > 0 or (infinities > 0 and negative_infinities > 0) then 'NaN'::numeric
  when infinities > 0 then 'Infinity'::numeric
  when negative_infinities > 0 then '-Infinity'::numeric
  else total
end;
comment on function pulso.sum_of(bigint, numeric, bigint, bigint, bigint) is
  'The sum that a rollup''s parts make: values present, total of the finite ones, counts of NaN, Infinity and -Infinity.';

-- Inlined by the planner; with the digits that Postgres's own aggregates give (numeric_stddev_internal).
create function pulso.variance_of(present bigint, total numeric, squares numeric, sample boolean)
returns numeric
language sql immutable parallel safe
return case
  when present > sample::integer then
    greatest(present::numeric * squares - total * total, 0)
      / (present::numeric * (present - sample::integer)::numeric)
end;
comment on function pulso.variance_of(bigint, numeric, numeric, boolean) is
  'The variance that a rollup''s parts make: values present, their total, the total of their squares; of a sample or of all.';

-- Of the square root exactly as many digits as the variance has, rounded half up as sqrt_var does.
create function pulso.stddev_of(variance numeric)
returns numeric
language sql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select case
           when variance in ('NaN', 0) then variance
           else r.root + case when (r.root + 0.5 * r.unit) * (r.root + 0.5 * r.unit) <= variance then r.unit else 0 end
         end
    from (
          select pg_catalog.trunc(pg_catalog.sqrt(pg_catalog.round(variance, pg_catalog.scale(variance) + 8)), pg_catalog.scale(variance)) as root,
                 pg_catalog.concat('1e-', pg_catalog.scale(variance))::numeric as unit
         ) as r
$$;
comment on function pulso.stddev_of(numeric) is 'The standard deviation of a variance, as Postgres''s own aggregates round it.';

-- ---------------------------------------------------------------- life of a rollup

create function pulso.create_rollup(name text, query text, with_data boolean default true) returns void
language c volatile strict
as 'MODULE_PATHNAME', 'create_rollup_wrapper';
comment on function pulso.create_rollup(text, text, boolean) is
  'Creates view `name` that always equals `query`, a grouped select over a table and tables joined to it by foreign keys, and fills it while writers of the tables wait; with_data => false leaves that to pulso.build, for which nobody waits.';

create function pulso.drop_rollup(name text) returns void
language c volatile strict
as 'MODULE_PATHNAME', 'drop_rollup_wrapper';
comment on function pulso.drop_rollup(text) is
  'Drops a rollup: its view, its tables, and the triggers when it was the last on its table.';

create function pulso.fill_rollup(name text, anew boolean) returns bigint
language c volatile strict
as 'MODULE_PATHNAME', 'fill_rollup_wrapper';
comment on function pulso.fill_rollup(text, boolean) is
  'A step of pulso.build and pulso.repair: fills a rollup, or the one that is to replace it, while writers go on.';

create function pulso.finish_alter(name text) returns boolean
language c volatile strict
as 'MODULE_PATHNAME', 'finish_alter_wrapper';
comment on function pulso.finish_alter(text) is
  'A step of pulso.alter_rollup: puts a built successor in its place. Waits for locks a moment only; 55P03 says to try again.';

-- Each try asks for its locks for a moment and lets go, so that nobody queues behind it for long.
create function pulso.swap_in(name text, tries integer) returns boolean
language plpgsql volatile strict
set search_path = pg_catalog, pg_temp
as $$
begin
  for attempt in 1..tries loop
    begin
      perform pulso.finish_alter(name);
      return true;
    exception
      when lock_not_available then
        perform pg_catalog.pg_sleep(0.02 * least(attempt, 25));
    end;
  end loop;
  return false;
end
$$;
comment on function pulso.swap_in(text, integer) is
  'A step of pulso.alter_rollup: finish_alter, tried until table and view are free; false when they never were.';

create function pulso.build(name text) returns bigint
language plpgsql volatile strict
set search_path = pg_catalog, pg_temp
as $$
declare
  groups bigint;
begin
  groups := pulso.fill_rollup(name, false);
  if not pulso.swap_in(name, 60) then
    raise warning 'the new query of % is built, but its table or its view is in use by a long transaction', name
      using hint = 'The view has its old query until pulso.build(name) is called again; that will take a moment only.';
  end if;
  return groups;
end
$$;
comment on function pulso.build(text) is
  'Fills a rollup made with_data => false while writers and readers go on, then lets its view read it; returns the groups stored, 0 when there was nothing to do.';

create function pulso.repair(name text) returns bigint
language sql volatile strict
set search_path = pg_catalog, pg_temp
as $$
  select pulso.fill_rollup(name, true)
$$;
comment on function pulso.repair(text) is
  'Fills a rollup anew from its table while writers and readers go on, whatever it holds; returns the groups stored.';

create function pulso.alter_rollup(name text, query text, with_data boolean default true) returns void
language c volatile strict
as 'MODULE_PATHNAME', 'alter_rollup_wrapper';
comment on function pulso.alter_rollup(text, text, boolean) is
  'Gives a rollup another query under the same view; columns can be added at its end. with_data => false leaves the filling, and the change, to pulso.build.';

create function pulso.explain_rollup(name text) returns table (step text, sql text)
language c volatile strict
as 'MODULE_PATHNAME', 'explain_rollup_wrapper';
comment on function pulso.explain_rollup(text) is
  'What is evaluated and run for a rollup: the captured expressions, and the SQL that reads, folds and fills it.';

create function pulso.scanned(place tid) returns boolean
language c stable strict parallel safe
as 'MODULE_PATHNAME', 'scanned_wrapper';
comment on function pulso.scanned(tid) is
  'Always true; notes for pulso.progress how far the scan has come that fills a rollup.';

create function pulso.capture() returns trigger
language c volatile
as 'MODULE_PATHNAME', 'capture_wrapper';
comment on function pulso.capture() is
  'Appends to each rollup of the table what a statement changed. Its triggers are made by create_rollup.';

create function pulso.begin() returns trigger
language c volatile
as 'MODULE_PATHNAME', 'begin_wrapper';
comment on function pulso.begin() is
  'Notes that a statement on a joined table begins. Its triggers are made by create_rollup.';

-- ---------------------------------------------------------------- tables that change

-- Without locks, which pg_partition_tree would take: whoever only folds must not wait for a table.
create function pulso.partitions(source regclass) returns regclass[]
language sql stable strict
set search_path = pg_catalog, pg_temp
as $$
  with recursive part (relid) as (
    select i.inhrelid from pg_catalog.pg_inherits i where i.inhparent = source
    union all
    select i.inhrelid from part p join pg_catalog.pg_inherits i on i.inhparent = p.relid
  )
  select coalesce(pg_catalog.array_agg(p.relid::regclass order by p.relid), '{}')
    from part p
   where exists (select from pg_catalog.pg_class c where c.oid = source and c.relkind = 'p')
$$;
comment on function pulso.partitions(regclass) is 'All partitions of a partitioned table, at every level.';

create function pulso.has_other_partitions(source regclass, known regclass[]) returns boolean
language sql stable strict
set search_path = pg_catalog, pg_temp
as $$
  select not (known::oid[] @> now.parts::oid[] and known::oid[] <@ now.parts::oid[])
    from (select pulso.partitions(source) as parts) as now
$$;
comment on function pulso.has_other_partitions(regclass, regclass[]) is 'Whether a table has other partitions than those known, in whatever order.';

create function pulso.blocks(source regclass) returns bigint
language sql stable strict
set search_path = pg_catalog, pg_temp
as $$
  with recursive part (relid) as (
    select source
    union all
    select i.inhrelid from part p join pg_catalog.pg_inherits i on i.inhparent = p.relid
  )
  select pg_catalog.sum(pg_catalog.pg_relation_size(p.relid))::bigint / pg_catalog.current_setting('block_size')::bigint from part p
$$;
comment on function pulso.blocks(regclass) is 'The size of a table, its partitions or chunks included, in blocks.';

-- Asked of its catalog, in words of its own: the extension may not be there.
create function pulso.is_hypertable(source regclass) returns boolean
language plpgsql stable strict
set search_path = pg_catalog, pg_temp
as $$
declare
  found_one boolean;
begin
  if not exists (select from pg_catalog.pg_extension e where e.extname = 'timescaledb') then
    return false;
  end if;
  execute 'select exists (
             select from _timescaledb_catalog.hypertable h
              where (h.schema_name, h.table_name) = (
                select n.nspname, c.relname from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = $1))'
    into found_one using source;
  return found_one;
end
$$;
comment on function pulso.is_hypertable(regclass) is 'Whether a table is a hypertable of TimescaleDB.';

create function pulso.is_subscribed(source regclass) returns boolean
language sql stable strict
set search_path = pg_catalog, pg_temp
as $$
  select exists (select from pg_catalog.pg_subscription_rel s where s.srrelid = any (source::oid || pulso.partitions(source)::oid[]))
$$;
comment on function pulso.is_subscribed(regclass) is 'Whether a table, or a partition of it, is fed by logical replication.';

-- Hypertables: a trigger with transition tables crashes the server before TimescaleDB 2.26.4, on a chunk made after a DROP
-- COLUMN; and statements and foreign keys that name a chunk fire its row triggers only. Partitioned tables: a MERGE that updates
-- a row after it has inserted one shows the inserted row as the updated one, up to some minor versions (15.18 and 18.6 do, 15.20 and
-- 17.12 do not). Tables fed by logical replication: whoever applies the changes fires row triggers only, and of those the ones that
-- are enabled always.
create function pulso.wanted_mode(source regclass) returns text
language sql stable strict
set search_path = pg_catalog, pg_temp
as $$
  select case
           when c.relkind = 'p' or pulso.is_hypertable(source) or pulso.is_subscribed(source) then 'row'
           else 'statement'
         end
    from pg_catalog.pg_class c
   where c.oid = source
$$;
comment on function pulso.wanted_mode(regclass) is 'How the changes of a table can be captured: by statement, or only row by row.';

create function pulso.capture_mode(source regclass) returns text
language sql stable strict
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(
    (select case when t.tgtype & 1 = 1 then 'row' else 'statement' end
       from pg_catalog.pg_trigger t
      where t.tgrelid = source and t.tgname = 'pulso_insert'),
    pulso.wanted_mode(source))
$$;
comment on function pulso.capture_mode(regclass) is 'How the changes of a table are captured by the triggers that are there.';

create function pulso.misses_changes(rollup pulso.rollup) returns boolean
language sql stable strict
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from pg_catalog.unnest(rollup.source || rollup.joined) as t (relid)
     where pulso.is_subscribed(t.relid)
       and (rollup.joined <> '{}'
         or not exists (
           select from pg_catalog.pg_trigger g
            where g.tgrelid = t.relid and g.tgname = 'pulso_insert' and g.tgtype & 1 = 1 and g.tgenabled = 'A')))
$$;
comment on function pulso.misses_changes(pulso.rollup) is
  'Whether logical replication feeds a rollup''s table, or one that is joined to it, past the triggers that are there.';

create function pulso.obstacle(source regclass) returns text
language sql stable strict
set search_path = pg_catalog, pg_temp
as $$
  select case
           when n.nspname in ('pg_catalog', 'information_schema', 'pulso') then 'system'
           when n.nspname = '_timescaledb_internal' then 'chunk'
           when c.relkind in ('v', 'm') then 'view'
           when c.relkind = 'f' then 'foreign'
           when c.relpersistence = 'u' then 'unlogged'
           when c.relispartition then 'partition'
           when c.relrowsecurity and c.relforcerowsecurity then 'forced row security'
           when c.relrowsecurity then 'row security'
           when c.relkind <> 'p'
            and exists (select from pg_catalog.pg_inherits i where c.oid in (i.inhrelid, i.inhparent))
            and not pulso.is_hypertable(c.oid) then 'inherited'
         end
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
   where c.oid = source
$$;
comment on function pulso.obstacle(regclass) is 'What keeps a table from being rolled up; NULL where nothing does.';

create function pulso.follow_partitions(id integer) returns void
language c volatile strict
as 'MODULE_PATHNAME', 'follow_partitions_wrapper';
comment on function pulso.follow_partitions(integer) is
  'Counts the rows of partitions that have come, takes away those of partitions that were detached, and lets their triggers follow.';
revoke execute on function pulso.follow_partitions(integer) from public;

-- In the transaction of the DDL, which holds the locks that keep its tables as they are.
create function pulso.tables_changed() returns event_trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  changed oid[] := array(select d.objid from pg_catalog.pg_event_trigger_ddl_commands() d where d.classid = 'pg_catalog.pg_class'::regclass);
  one record;
begin
  -- Only what this command is about: what is wrong elsewhere must not stand in its way.
  for one in
    select r.id, r.view, r.shows_all_rows, t.source, pulso.obstacle(t.source) as obstacle
      from pulso.rollup r
     cross join pg_catalog.unnest(r.source || r.joined) as t (source)
     where t.source = any (changed)
        or exists (
          select from pg_catalog.pg_inherits i
           where (i.inhparent = t.source and i.inhrelid = any (changed)) or (i.inhrelid = t.source and i.inhparent = any (changed)))
  loop
    if one.obstacle in ('partition', 'inherited', 'unlogged') then
      raise exception 'table % has a rollup, %, and cannot become %', one.source, one.view,
            case one.obstacle when 'partition' then 'a partition' when 'unlogged' then 'unlogged' else 'part of an inheritance tree' end
        using errcode = '0A000',
              hint = pg_catalog.format('Changes of its rows would not be counted. Drop the rollup first: select pulso.drop_rollup(%L)', one.view::text);
    end if;
    if one.obstacle = 'forced row security' then
      raise exception 'table % has a rollup, %, and cannot have forced row security', one.source, one.view
        using errcode = '0A000', hint = 'The rollup is filled with its owner''s eyes, to whom rows would be hidden. Drop it first.';
    end if;
    if one.obstacle = 'row security' and not one.shows_all_rows then
      if coalesce(nullif(pg_catalog.current_setting('pulso.allow_row_security', true), ''), 'off')::boolean then
        update pulso.rollup r set shows_all_rows = true where r.id = one.id;
      else
        raise exception 'table % has a rollup, %, which would show figures of all rows', one.source, one.view
          using errcode = '0A000',
                hint = 'Drop the rollup; or, where whoever may read it may see that, set pulso.allow_row_security = on first.';
      end if;
    end if;
  end loop;
  for one in
    select r.id from pulso.rollup r
     where pulso.has_other_partitions(r.source, r.partitions)
       and (r.source::oid = any (changed) or pulso.partitions(r.source)::oid[] && changed)
     order by r.id
  loop
    perform pulso.follow_partitions(one.id);
  end loop;
end
$$;
comment on function pulso.tables_changed() is
  'Keeps rollups right after CREATE TABLE and ALTER TABLE: partitions that come and go are counted, what could not be is refused.';

create function pulso.renew_triggers(id integer) returns void
language c volatile strict
as 'MODULE_PATHNAME', 'renew_triggers_wrapper';
comment on function pulso.renew_triggers(integer) is 'Makes the triggers of a rollup''s table anew, as the table needs them now.';
revoke execute on function pulso.renew_triggers(integer) from public;

-- Before the first change is applied: a subscription begins after the commit that makes it.
create function pulso.subscriptions_changed() returns event_trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  one record;
begin
  for one in select r.id, r.joined from pulso.rollup r where pulso.misses_changes(r) order by r.id loop
    if one.joined = '{}' then
      perform pulso.renew_triggers(one.id);
    else
      update pulso.state s
         set live = false, reason = 'a table of the join is fed by logical replication, which heeds no foreign key; drop the rollup, or the subscription'
       where s.id = one.id;
    end if;
  end loop;
end
$$;
comment on function pulso.subscriptions_changed() is
  'Lets capture follow CREATE and ALTER SUBSCRIPTION: what is applied is captured row by row.';

create function pulso.tables_dropped() returns event_trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  with lost as (
    update pulso.rollup r
       set partitions = array(select p from pg_catalog.unnest(r.partitions) as p where p not in (select d.objid from pg_catalog.pg_event_trigger_dropped_objects() d))
     where exists (
       select from pg_catalog.pg_event_trigger_dropped_objects() d
        where d.classid = 'pg_catalog.pg_class'::regclass and d.objsubid = 0 and d.objid = any (r.partitions::oid[]))
    returning r.id
  )
  update pulso.state s
     set live = false, reason = 'a partition was dropped; pulso.repair(name) builds it anew, DETACH before DROP spares that'
    from lost where s.id = lost.id and s.live;
end
$$;
comment on function pulso.tables_dropped() is
  'Lets rollups run their queries when a partition is dropped with rows that nobody can take away any more.';

create function pulso.refuse_concurrent_detach() returns event_trigger
language c volatile
as 'MODULE_PATHNAME', 'refuse_concurrent_detach_wrapper';
comment on function pulso.refuse_concurrent_detach() is
  'Refuses ALTER TABLE … DETACH PARTITION … CONCURRENTLY of a table with rollups.';


-- ---------------------------------------------------------------- folding
-- The steps are functions of their own so that each runs in a snapshot of its own.

create function pulso.has_pending(id integer) returns boolean
language c volatile strict
as 'MODULE_PATHNAME', 'has_pending_wrapper';
comment on function pulso.has_pending(integer) is 'Whether a rollup has committed deltas that are not folded yet.';

create function pulso.close_generations() returns void
language c volatile
as 'MODULE_PATHNAME', 'close_generations_wrapper';
comment on function pulso.close_generations() is
  'Begins a new generation and notes which earlier ones a transaction still holds. Waits for nobody.';

create function pulso.fold_rollup(id integer, wait boolean) returns bigint
language c volatile strict
as 'MODULE_PATHNAME', 'fold_rollup_wrapper';
comment on function pulso.fold_rollup(integer, boolean) is
  'Moves the deltas of one rollup''s closed generations into its base; returns their number. Does nothing when another folder is at it, unless told to wait.';

create function pulso.is_whole(base regclass) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (select from pg_catalog.pg_index i where i.indrelid = base and i.indisunique and i.indisvalid)
$$;
comment on function pulso.is_whole(regclass) is
  'Whether a rollup''s tables are all there: a dump that is being loaded brings rows first, then the counter, then the base''s index.';

-- Writers would put generations on their deltas that readers take for folded.
create function pulso.mend_counter() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  counter bigint;
  highest bigint;
begin
  -- The state before the counter: what another folds in between puts the counter further ahead, never behind.
  select pg_catalog.max(pulso.folded_through(r.id)) into highest from pulso.rollup r;
  select g.last_value into counter from pulso.generation g;
  if highest is null or highest < counter then
    return;
  end if;
  -- Nobody folds, and nobody else mends, until this commits.
  lock table pulso.state in share row exclusive mode;
  select g.last_value into counter from pulso.generation g;
  select pg_catalog.max(s.folded_through) into highest
    from pulso.state s join pulso.rollup r on r.id = s.id
   where s.folded_through >= counter and pulso.is_whole(r.base);
  if highest is not null then
    perform pg_catalog.setval('pulso.generation', highest + 1);
    update pulso.state
       set live = false,
           reason = pg_catalog.format('the generation counter was at %s, behind %s; pulso.repair(name) builds it anew', counter, folded_through)
     where folded_through >= counter;
    raise warning 'pulso: the generation counter was at %, behind %: it has been set forward', counter, highest
      using hint = 'The rollups concerned run their queries; pulso.repair(name) builds each anew.';
  end if;
end
$$;
comment on function pulso.mend_counter() is
  'Sets the generation counter forward where a mishap has put it behind what is folded, and lets the rollups concerned run their queries.';

revoke execute on function pulso.has_pending(integer), pulso.close_generations(), pulso.fold_rollup(integer, boolean), pulso.mend_counter() from public;

-- Runs as the extension's owner, since the state is nobody else's to write; fold_rollup touches a rollup's
-- own tables with the rights of the rollup's owner only.
create function pulso.fold(name text default null) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  due integer[];
  one integer;
  folded bigint := 0;
begin
  if pg_catalog.current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    raise exception 'pulso.fold cannot run at isolation level %', pg_catalog.current_setting('transaction_isolation')
      using errcode = '25001',
            hint = 'Its snapshot must be younger than the transactions it looks for: call it in READ COMMITTED.';
  end if;
  if pg_catalog.pg_is_in_recovery() then
    raise exception 'pulso.fold cannot run on a standby'
      using errcode = '25006', hint = 'Answers are exact without it; the primary folds.';
  end if;
  if fold.name is not null and pulso.rollup_id(fold.name) is null then
    raise exception 'there is no rollup %', fold.name
      using errcode = '42P01', hint = 'The rollups are listed by: select name from pulso.rollups';
  end if;
  perform pulso.mend_counter();
  -- Where no event trigger has followed. The state is asked for by functions: a scan would come past all that an old snapshot keeps of it.
  for one in
    select r.id from pulso.rollup r where pulso.is_live(r.id) and pulso.has_other_partitions(r.source, r.partitions)
  loop
    update pulso.state
       set live = false, reason = 'the table has other partitions than those that are counted; pulso.repair(name) builds it anew'
     where id = one;
  end loop;
  for one in
    select r.id from pulso.rollup r where pulso.is_live(r.id) and pulso.misses_changes(r)
  loop
    update pulso.state
       set live = false, reason = 'logical replication feeds a table past the triggers that are there; pulso.repair(name) builds it anew'
     where id = one;
  end loop;
  select pg_catalog.array_agg(r.id order by r.id) into due
    from pulso.rollup r
   where pulso.is_live(r.id)
     and (fold.name is null or r.id = pulso.rollup_id(fold.name))
     and pulso.is_whole(r.base)
     and pulso.has_pending(r.id);
  if due is null then
    return 0;
  end if;
  perform pulso.close_generations();
  foreach one in array due loop
    begin
      folded := folded + pulso.fold_rollup(one, fold.name is not null);
    exception
      -- What passes by itself is left to the next tick; anything else would come again at each.
      when query_canceled or lock_not_available or deadlock_detected or serialization_failure
           or admin_shutdown or crash_shutdown or out_of_memory or disk_full or too_many_connections then
        raise;
      when others then
        update pulso.state set live = false, reason = sqlerrm where id = one;
        raise warning 'pulso: rollup % cannot be folded and runs its query from now on: %', one, sqlerrm;
    end;
  end loop;
  perform pulso.send_changes();
  return folded;
end
$$;
comment on function pulso.fold(text) is
  'Folds the pending deltas of one rollup, or of all; returns how many. Answers do not change by it, reads get cheaper.';

-- ---------------------------------------------------------------- the change feed

create sequence pulso.change as bigint cache 1;
comment on sequence pulso.change is 'Numbers the notifications on channel pulso_changes; a listener that misses one forgets all that it knows.';

create function pulso.has_news(id integer) returns boolean
language c volatile strict
as 'MODULE_PATHNAME', 'has_news_wrapper';
comment on function pulso.has_news(integer) is 'Whether a rollup has committed deltas that this session has not announced.';

create function pulso.look(id integer, live boolean) returns void
language c volatile strict
as 'MODULE_PATHNAME', 'look_wrapper';
comment on function pulso.look(integer, boolean) is
  'Notes which groups of a rollup have changed; any, where it is not live.';

create function pulso.send_changes() returns bigint
language c volatile
as 'MODULE_PATHNAME', 'send_changes_wrapper';
comment on function pulso.send_changes() is
  'Sends what this transaction has noted as one notification on channel pulso_changes; returns the number of rollups in it.';

revoke execute on function pulso.has_news(integer), pulso.look(integer, boolean), pulso.send_changes() from public;

create function pulso.announce() returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  changed integer[];
  queries integer[];
  one integer;
begin
  if pg_catalog.current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    raise exception 'pulso.announce cannot run at isolation level %', pg_catalog.current_setting('transaction_isolation')
      using errcode = '25001', hint = 'Its snapshot must be younger than the changes that it looks for: call it in READ COMMITTED.';
  end if;
  if pg_catalog.pg_is_in_recovery() then
    raise exception 'pulso.announce cannot run on a standby'
      using errcode = '25006', hint = 'Listen on the primary.';
  end if;
  select pg_catalog.array_agg(r.id) filter (where pulso.is_live(r.id) and pulso.is_whole(r.base) and pulso.has_news(r.id)),
         pg_catalog.array_agg(r.id) filter (where not pulso.is_live(r.id) and r.replaces is null
                                              and exists (select from pulso.state s where s.id = r.id))
    into changed, queries
    from pulso.rollup r;
  if changed is not null then
    perform pulso.close_generations();
    foreach one in array changed loop
      perform pulso.look(one, true);
    end loop;
  end if;
  foreach one in array coalesce(queries, '{}') loop
    perform pulso.look(one, false);
  end loop;
  return pulso.send_changes();
end
$$;
comment on function pulso.announce() is
  'Announces on channel pulso_changes which groups have changed since this session last did; returns the number of rollups. Folding does it by itself; this is for what cannot be folded yet.';

-- ---------------------------------------------------------------- what there is

create function pulso.rollup_id(name text) returns integer
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select r.id from pulso.rollup r where r.view = pg_catalog.to_regclass(rollup_id.name)
$$;
comment on function pulso.rollup_id(text) is 'The number of a rollup by the name of its view, qualified; NULL when there is none.';

create function pulso.pending(delta regclass, folded_through bigint, open_generations bigint[]) returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  pending bigint;
begin
  execute pg_catalog.format('select count(*) from %s where gen > $1 or gen = any ($2)', delta)
    into pending using folded_through, open_generations;
  return pending;
exception
  when insufficient_privilege then
    return null;
end
$$;
comment on function pulso.pending(regclass, bigint, bigint[]) is 'Deltas not folded yet; NULL for a role that may not read them.';

create view pulso.rollups as
select r.id,
       r.view::text as name,
       pg_catalog.array_to_string(r.source || r.joined, ', ') as source,
       s.live,
       s.reason,
       pulso.capture_mode(r.source) as capture_mode,
       greatest(c.reltuples, 0)::bigint as groups_estimate,
       pulso.pending(r.delta, s.folded_through, s.open_generations) as pending_deltas,
       s.folded_through,
       pg_catalog.cardinality(s.open_generations) as open_generations,
       s.folded_at,
       pg_catalog.pg_total_relation_size(r.base) as base_bytes,
       pg_catalog.pg_total_relation_size(r.delta) as delta_bytes,
       pg_catalog.pg_get_viewdef(r.definition) as query,
       o.view::text as replaces,
       w.view::text as companion_of
  from pulso.rollup r
  join pulso.state s on s.id = r.id
  left join pg_catalog.pg_class c on c.oid = r.base
  left join pulso.rollup o on o.id = r.replaces
  left join pulso.rollup w on w.id = r.companion_of;
comment on view pulso.rollups is 'The rollups, what they rest on, and how far they are folded.';
comment on column pulso.rollups.live is 'false: the view runs its query instead of reading the rollup; reason says why.';
comment on column pulso.rollups.capture_mode is 'statement: captured once per statement from the transition tables; row: from each row, kept to the statement''s end, for what statement triggers cannot do.';
comment on column pulso.rollups.groups_estimate is 'Groups in the base, as of its last ANALYZE.';
comment on column pulso.rollups.pending_deltas is 'Deltas that each read adds to the base until they are folded.';
comment on column pulso.rollups.open_generations is 'Generations that an open transaction kept from being folded.';

comment on column pulso.rollups.companion_of is 'The rollup that this one is a part of, counting its values one by one.';
comment on column pulso.rollups.replaces is 'The rollup whose place this one takes once it is built; NULL but while pulso.alter_rollup is at work.';

create view pulso.progress as
select r.view::text as name,
       l.pid,
       case when l.objid::bigint = 4294967295 then 'storing groups' else 'reading' end as phase,
       least(l.objid::bigint, t.blocks) as blocks_done,
       t.blocks as blocks_total
  from pg_catalog.pg_locks l
  join pulso.rollup r on r.id = l.classid::bigint
 cross join lateral (
        select pulso.blocks(r.source) as blocks
       ) as t
 where l.locktype = 'advisory'
   and l.objsubid = 20560
   and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database());
comment on view pulso.progress is 'Rollups that are being filled at this moment, by build, repair, create or alter.';
comment on column pulso.progress.name is 'The rollup; while pulso.alter_rollup is at work, the one that is to take another''s place.';
comment on column pulso.progress.phase is 'reading: the table; storing groups: what was read is put into the base.';
comment on column pulso.progress.blocks_done is 'Blocks of the table that have been read.';

create function pulso.verify(name text, filter text default null) returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  rollup pulso.rollup;
  differences bigint;
  boundary text;
begin
  select * into rollup from pulso.rollup r where r.id = pulso.rollup_id(verify.name);
  if not found then
    raise exception 'there is no rollup %', verify.name
      using errcode = '42P01', hint = 'The rollups are listed by: select name from pulso.rollups';
  end if;
  -- One statement, one snapshot: what is compared is the same instant. The filter is run with the caller's rights.
  execute pg_catalog.format(
    'with r as not materialized (select * from %1$s where %3$s), q as not materialized (select * from %2$s where %3$s)
     select count(*) from ((table r except all table q) union all (table q except all table r)) as d',
    rollup.view, rollup.definition, coalesce('(' || filter || E'\n)', 'true')) into differences;
  if differences > 0 and pulso.is_hypertable(rollup.source) then
    execute 'select min(c.range_start)::text from timescaledb_information.chunks c
              where pg_catalog.format(''%I.%I'', c.hypertable_schema, c.hypertable_name)::regclass = $1'
      into boundary using rollup.source;
    raise notice 'hypertable % begins at %: groups from before are kept when chunks are dropped, and differ', rollup.source, coalesce(boundary, '(nothing)')
      using hint = 'Compare what is left: select pulso.verify(name, filter), with a condition on the rollup''s time column.';
  end if;
  return differences;
end
$$;
comment on function pulso.verify(text, text) is
  'Compares a rollup with its query in one snapshot, without locks; returns the rows that differ: 0 unless something is wrong. `filter`, a condition on the rollup''s columns, compares a part: of grouped columns it makes it cheap.';

-- As its owner: others are not shown what a session of the server's is for.
create function pulso.folder_running() returns boolean
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from pg_catalog.pg_stat_activity a
     where a.backend_type = 'pulso folder'
       and a.datname = pg_catalog.current_database())
$$;
comment on function pulso.folder_running() is
  'Whether a background worker folds this database; where none does, `pulso serve` or a call of pulso.fold() must.';

-- How many notifications there were is no more than whoever listens hears.
grant select on pulso.rollup, pulso.state, pulso.rollups, pulso.progress, pulso.change to public;

-- Last, so that they do not see this script at work.
create event trigger pulso_tables_change on ddl_command_start when tag in ('ALTER TABLE') execute function pulso.refuse_concurrent_detach();
create event trigger pulso_tables_changed on ddl_command_end 
  when tag in ('CREATE TABLE', 'ALTER TABLE', 'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE', 'CREATE SCHEMA') execute function pulso.tables_changed();
create event trigger pulso_subscriptions_changed on ddl_command_end
  when tag in ('CREATE SUBSCRIPTION', 'ALTER SUBSCRIPTION') execute function pulso.subscriptions_changed();
create event trigger pulso_tables_dropped on sql_drop execute function pulso.tables_dropped();
-- Whatever the session's replication role.
alter event trigger pulso_tables_change enable always;
alter event trigger pulso_tables_changed enable always;
alter event trigger pulso_subscriptions_changed enable always;
alter event trigger pulso_tables_dropped enable always;
