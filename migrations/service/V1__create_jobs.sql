-- Jobs of the worker: schedule, lease, history; and how stale each view is.
-- Locks: none on the shop's tables, everything is new.
-- Undo: drop view pulso.freshness; drop function pulso.refresh_view(regclass), pulso.last_refresh(text, text); drop table pulso.job_run, pulso.job, pulso.view_refresh.

create table pulso.job (
  name text primary key,
  task text not null,
  command text,
  schedule text not null,
  time_zone text not null default 'UTC',
  catch_up text not null default 'once',
  paused boolean not null default false,
  lease_seconds integer not null default 60,
  timeout_seconds integer not null default 3600,
  max_attempts integer not null default 3,
  next_slot timestamptz,
  attempt integer not null default 0,
  retry_at timestamptz,
  token bigint not null default 0,
  lease_owner text,
  lease_until timestamptz,
  last_slot timestamptz,
  last_started_at timestamptz,
  last_finished_at timestamptz,
  last_outcome text,
  last_error text,
  last_duration_ms bigint,
  done_count bigint not null default 0,
  failed_count bigint not null default 0,
  created_at timestamptz not null default now(),
  constraint job_name_plain check (name ~ '^[a-z][a-z0-9_]{0,62}$'),
  constraint job_task_known check (task in ('refresh_views', 'verify_rollups', 'purge_history', 'sql')),
  constraint job_command_with_sql check ((task = 'sql') = (command is not null)),
  constraint job_time_zone_known check (timezone(time_zone, timestamptz '2000-01-01 00:00+00') is not null),
  constraint job_catch_up_known check (catch_up in ('once', 'all', 'skip')),
  constraint job_lease_bounded check (lease_seconds between 1 and 3600),
  constraint job_timeout_bounded check (timeout_seconds between 1 and 86400),
  constraint job_attempts_bounded check (max_attempts between 1 and 100)
);
comment on table pulso.job is 'What the workers run, and when. One row a job; `pulso job` lists, runs, pauses and changes them. A worker runs `command` with its own rights: let nobody write here whom you would not lend them.';
comment on column pulso.job.task is 'refresh_views, verify_rollups, purge_history: built in; sql: runs `command`.';
comment on column pulso.job.command is 'One SQL statement, run in the transaction that also notes the run as done. current_setting(''pulso.slot'') is the slot it runs for.';
comment on column pulso.job.schedule is 'every 15m | daily 04:30 | weekly mon,thu 04:30 | monthly 1 04:30';
comment on column pulso.job.time_zone is 'IANA time zone whose clock the schedule follows. A time that the clock skips comes right after the gap, one that it repeats comes once.';
comment on column pulso.job.catch_up is 'What becomes of slots that nobody ran in time. once: one run for all of them; all: each, in order; skip: those more than five minutes late are noted as skipped.';
comment on column pulso.job.lease_seconds is 'A run whose worker does not renew its lease for so long is taken over.';
comment on column pulso.job.timeout_seconds is 'A run that takes longer is cancelled and counts as failed.';
comment on column pulso.job.max_attempts is 'A slot whose run failed so often is given up; the next slot comes in its time.';
comment on column pulso.job.next_slot is 'The first slot not run yet. NULL until a worker has seen the job.';
comment on column pulso.job.attempt is 'Failed runs of next_slot so far.';
comment on column pulso.job.retry_at is 'When a failed slot is tried again.';
comment on column pulso.job.token is 'Fencing token: grows with each claim; a run commits only while it is still its own.';
comment on column pulso.job.lease_owner is 'The worker that runs it now, as host:pid.';
comment on column pulso.job.lease_until is 'NULL or past: free to be claimed.';
comment on column pulso.job.done_count is 'Runs that were done, ever.';
comment on column pulso.job.failed_count is 'Runs that failed, ever.';

create table pulso.job_run (
  job text not null references pulso.job (name) on update cascade on delete cascade,
  token bigint not null,
  slot timestamptz not null,
  slots bigint not null default 1,
  trigger text not null,
  owner text not null,
  started_at timestamptz not null,
  finished_at timestamptz,
  outcome text not null,
  duration_ms bigint,
  result text,
  error text,
  primary key (job, token),
  constraint job_run_trigger_known check (trigger in ('schedule', 'hand')),
  constraint job_run_outcome_known check (outcome in ('running', 'done', 'failed', 'lost', 'returned', 'skipped'))
);
comment on table pulso.job_run is 'History of the jobs, one row a run. Job purge_history deletes what is older than 30 days.';
comment on column pulso.job_run.token is 'The fencing token of the run.';
comment on column pulso.job_run.slot is 'The time that the run was due; of a run by hand, when it was asked for.';
comment on column pulso.job_run.slots is 'Due slots that the run stands for: more than one where catch_up is once and slots were missed.';
comment on column pulso.job_run.outcome is 'running; done; failed; lost: its worker vanished and the slot was taken over; returned: its worker was told to stop; skipped: too late to be run.';
create index job_run_started_idx on pulso.job_run (started_at);
create unique index job_run_one_effect_a_slot on pulso.job_run (job, slot) where outcome = 'done' and trigger = 'schedule';

insert into pulso.job (name, task, schedule, time_zone, catch_up, timeout_seconds) values
  ('refresh_views', 'refresh_views', 'every 1h', 'UTC', 'once', 3600),
  ('verify_rollups', 'verify_rollups', 'daily 04:30', 'America/Caracas', 'once', 14400),
  ('purge_history', 'purge_history', 'daily 03:15', 'America/Caracas', 'once', 600);

-- ---------------------------------------------------------------- views that are refreshed

create table pulso.view_refresh (
  name text primary key,
  refreshed_at timestamptz,
  mode text,
  duration_ms bigint,
  failed_at timestamptz,
  error text
);
comment on table pulso.view_refresh is 'When each materialized view was last refreshed through pulso.refresh_view.';
comment on column pulso.view_refresh.refreshed_at is 'The view holds what was committed by then.';
comment on column pulso.view_refresh.error is 'Why the last refresh failed; NULL when it did not.';

create function pulso.refresh_view(view regclass) returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  began timestamptz := clock_timestamp();
  full_name text;
  populated boolean;
  mode text := 'exclusive';
  report text;
  is_report boolean := false;
begin
  select format('%I.%I', n.nspname, c.relname), c.relispopulated, case n.nspname when 'analytics' then c.relname end
    into full_name, populated, report
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
   where c.oid = refresh_view.view and c.relkind = 'm';
  if not found then
    raise exception '% is not a materialized view', refresh_view.view
      using errcode = '42809', hint = 'They are listed by: select schemaname, matviewname from pg_matviews';
  end if;
  -- The reports have a function of their own, which notes the refresh for those who ask there.
  if to_regprocedure('analytics.refresh_report(text)') is not null then
    execute 'select exists (select from analytics.report_refresh f where f.report = $1)' into is_report using report;
  end if;
  if is_report then
    mode := case when populated then 'concurrently' else 'exclusive' end;
    execute 'select analytics.refresh_report($1)' using report;
  elsif populated and exists (
    select from pg_index i
     where i.indrelid = refresh_view.view and i.indisunique and i.indisvalid and i.indimmediate
       and i.indpred is null and i.indexprs is null
  ) then
    mode := 'concurrently';
    execute format('refresh materialized view concurrently %s', full_name);
  else
    execute format('refresh materialized view %s', full_name);
  end if;
  insert into pulso.view_refresh (name, refreshed_at, mode, duration_ms)
  values (full_name, began, mode, 1000 * extract(epoch from clock_timestamp() - began))
  on conflict (name) do update
    set refreshed_at = excluded.refreshed_at, mode = excluded.mode, duration_ms = excluded.duration_ms,
        failed_at = null, error = null;
  return mode;
end
$$;
comment on function pulso.refresh_view(regclass) is
  'Refreshes a materialized view and notes when: concurrently where a plain unique index allows it (readers go on), else with readers waiting. Returns which.';

create function pulso.last_refresh(schema_name text, view_name text) returns timestamptz
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  here timestamptz;
  there timestamptz;
begin
  select f.refreshed_at into here from pulso.view_refresh f where f.name = format('%I.%I', schema_name, view_name);
  if schema_name = 'analytics' and to_regclass('analytics.report_refresh') is not null then
    execute 'select f.as_of from analytics.report_refresh f where f.report = $1' into there using view_name;
  end if;
  -- On the tier plain the rollups are materialized views.
  if there is null and to_regclass('pulso.plain_rollup') is not null then
    execute 'select r.as_of from pulso.plain_rollup r where r.name = $1' into there using format('%I.%I', schema_name, view_name);
  end if;
  return greatest(here, there);
end
$$;
comment on function pulso.last_refresh(text, text) is
  'When a materialized view was last refreshed by pulso.refresh_view, or by the functions of the reports; NULL when that is not known.';

create view pulso.freshness as
select r.name,
       'rollup'::text as kind,
       now() as as_of,
       interval '0' as staleness,
       r.pending_deltas,
       r.folded_at,
       case when not r.live then 'runs its query: ' || r.reason end as detail
  from pulso.rollups r
 where r.replaces is null
 union all
select format('%I.%I', v.schemaname, v.matviewname),
       'materialized view',
       case when v.ispopulated then l.at end,
       case when v.ispopulated then now() - l.at end,
       null,
       null,
       case when not v.ispopulated then 'has no data yet'
            when f.error is not null then 'the last refresh failed: ' || f.error
            when l.at is null then 'was never refreshed by Pulso' end
  from pg_catalog.pg_matviews v
  left join pulso.view_refresh f on f.name = format('%I.%I', v.schemaname, v.matviewname)
 cross join lateral (select pulso.last_refresh(v.schemaname, v.matviewname)) as l (at)
 where v.schemaname = 'analytics';
comment on view pulso.freshness is 'How old the figures of each rollup and each materialized view in schema analytics are. Rollups are fresh at commit.';
comment on column pulso.freshness.as_of is 'It holds all that was committed by then; NULL when that is not known.';
comment on column pulso.freshness.staleness is 'now() - as_of';
comment on column pulso.freshness.pending_deltas is 'Of a rollup: changes that each read adds until they are folded. They make reads slower, never older.';
comment on column pulso.freshness.detail is 'What is wrong with it; NULL when nothing is.';
grant select on pulso.freshness to public;
grant select on pulso.view_refresh to public;
