-- The engine's SQL objects. Written by hand; a test compares the C functions here with the library's symbols.
\echo Use "create extension pulso" to load this file. \quit

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
  created_at timestamptz not null default now(),
  constraint rollup_view_key unique (view)
);
comment on table pulso.rollup is 'One row per rollup. Written by the functions of this schema only; read pulso.rollups.';
comment on column pulso.rollup.view is 'The view that people query.';
comment on column pulso.rollup.definition is 'A view of the rollup''s query: it lets Postgres track renames and dependencies, and is what verify compares with.';
comment on column pulso.rollup.source is 'The table whose rows are counted.';
comment on column pulso.rollup.base is 'Groups folded so far.';
comment on column pulso.rollup.delta is 'Changes not folded yet.';
create index rollup_source_idx on pulso.rollup (source);

create table pulso.state (
  id integer primary key references pulso.rollup (id) on delete cascade,
  live boolean not null default true,
  reason text,
  folded_through bigint not null default 0,
  open_generations bigint[] not null default '{}',
  folded_at timestamptz
) with (fillfactor = 50);
comment on table pulso.state is 'What has been folded, read by each rollup''s view in the reader''s own snapshot.';
comment on column pulso.state.live is 'false: the view runs its query instead; `reason` says why.';
comment on column pulso.state.folded_through is 'Deltas of generations up to this one are in the base, but for open_generations.';
comment on column pulso.state.open_generations is 'Generations at or below folded_through that a transaction still held when it was folded.';

create sequence pulso.generation as bigint cache 1;
comment on sequence pulso.generation is 'The generation that writers put on their deltas; advanced by folding only.';
select pg_catalog.nextval('pulso.generation');

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

-- ---------------------------------------------------------------- life of a rollup

create function pulso.create_rollup(name text, query text, with_data boolean default true) returns void
language c volatile strict
as 'MODULE_PATHNAME', 'create_rollup_wrapper';
comment on function pulso.create_rollup(text, text, boolean) is
  'Creates view `name` that always equals `query`, a grouped select over one table, and fills it while writers of the table wait.';

create function pulso.drop_rollup(name text) returns void
language c volatile strict
as 'MODULE_PATHNAME', 'drop_rollup_wrapper';
comment on function pulso.drop_rollup(text) is
  'Drops a rollup: its view, its tables, and the triggers when it was the last on its table.';

create function pulso.capture() returns trigger
language c volatile
as 'MODULE_PATHNAME', 'capture_wrapper';
comment on function pulso.capture() is
  'Appends to each rollup of the table what a statement changed. Its triggers are made by create_rollup.';

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

revoke execute on function pulso.has_pending(integer), pulso.close_generations(), pulso.fold_rollup(integer, boolean) from public;

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
  if fold.name is not null and pulso.rollup_id(fold.name) is null then
    raise exception 'there is no rollup %', fold.name
      using errcode = '42P01', hint = 'The rollups are listed by: select name from pulso.rollups';
  end if;
  select pg_catalog.array_agg(r.id order by r.id) into due
    from pulso.rollup r
    join pulso.state s on s.id = r.id
   where s.live
     and (fold.name is null or r.id = pulso.rollup_id(fold.name))
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
  return folded;
end
$$;
comment on function pulso.fold(text) is
  'Folds the pending deltas of one rollup, or of all; returns how many. Answers do not change by it, reads get cheaper.';

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
       r.source::text as source,
       s.live,
       s.reason,
       'statement'::text as capture_mode,
       greatest(c.reltuples, 0)::bigint as groups_estimate,
       pulso.pending(r.delta, s.folded_through, s.open_generations) as pending_deltas,
       s.folded_through,
       pg_catalog.cardinality(s.open_generations) as open_generations,
       s.folded_at,
       pg_catalog.pg_total_relation_size(r.base) as base_bytes,
       pg_catalog.pg_total_relation_size(r.delta) as delta_bytes,
       pg_catalog.pg_get_viewdef(r.definition) as query
  from pulso.rollup r
  join pulso.state s on s.id = r.id
  left join pg_catalog.pg_class c on c.oid = r.base;
comment on view pulso.rollups is 'The rollups, what they rest on, and how far they are folded.';
comment on column pulso.rollups.live is 'false: the view runs its query instead of reading the rollup; reason says why.';
comment on column pulso.rollups.capture_mode is 'statement: captured once per statement from the transition tables.';
comment on column pulso.rollups.groups_estimate is 'Groups in the base, as of its last ANALYZE.';
comment on column pulso.rollups.pending_deltas is 'Deltas that each read adds to the base until they are folded.';
comment on column pulso.rollups.open_generations is 'Generations that an open transaction kept from being folded.';

create function pulso.verify(name text) returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  rollup pulso.rollup;
  differences bigint;
begin
  select * into rollup from pulso.rollup r where r.id = pulso.rollup_id(verify.name);
  if not found then
    raise exception 'there is no rollup %', verify.name
      using errcode = '42P01', hint = 'The rollups are listed by: select name from pulso.rollups';
  end if;
  -- One statement, one snapshot: what is compared is the same instant.
  execute pg_catalog.format(
    'select count(*) from ((table %1$s except all table %2$s) union all (table %2$s except all table %1$s)) as d',
    rollup.view, rollup.definition) into differences;
  return differences;
end
$$;
comment on function pulso.verify(text) is
  'Compares a rollup with its query in one snapshot, without locks; returns the rows that differ: 0 unless something is wrong.';

create function pulso.folder_running() returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from pg_catalog.pg_stat_activity a
     where a.backend_type = 'pulso folder'
       and a.datname = pg_catalog.current_database())
$$;
comment on function pulso.folder_running() is
  'Whether a background worker folds this database; where none does, `pulso serve` or a call of pulso.fold() must.';

grant select on pulso.rollup, pulso.state, pulso.rollups to public;
