-- What the conversion to hypertables notes of itself.
-- Locks: none on the shop's tables, everything is new.
-- Undo: drops the table and the function.

create table pulso.conversion (
  source text primary key,
  goal text not null,
  phase text not null,
  time_column text not null,
  originals jsonb not null,
  at_relation text,
  next_block bigint not null default 0,
  blocks_done bigint not null default 0,
  blocks_total bigint not null default 0,
  started_at timestamptz not null default now(),
  changed_at timestamptz not null default now(),
  constraint conversion_goal_known check (goal in ('hypertable', 'plain')),
  constraint conversion_phase_known check (phase in ('prepared', 'copying', 'copied', 'equal', 'swapped', 'done'))
);
comment on table pulso.conversion is 'Tables that pulso migrate has made hypertables, or is about to; a row goes when its table is a plain one again.';
comment on column pulso.conversion.source is 'The table, qualified.';
comment on column pulso.conversion.phase is 'prepared: the table to be is there; copying: changes are mirrored into it; copied; equal: compared; swapped: it has its place; done.';
comment on column pulso.conversion.originals is 'Indexes and foreign keys that the plain table had and that a hypertable cannot have.';
comment on column pulso.conversion.at_relation is 'The table or chunk that is being copied.';
comment on column pulso.conversion.next_block is 'The first block of it that is not copied yet.';

-- Row triggers run when the chunk of a row is found or made, and before the row is looked at.
create function pulso.no_row() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  return null;
end
$$;
comment on function pulso.no_row() is 'Lets a row go no further than to its chunk (pulso.make_chunks).';
