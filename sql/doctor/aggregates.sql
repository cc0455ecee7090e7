-- Continuous aggregates and policies of TimescaleDB, where its catalogs are in this database.
with job as (
  select j.job_id, j.proc_name, j.hypertable_schema, j.hypertable_name, j.scheduled, j.schedule_interval,
         (j.config ->> 'start_offset')::interval as start_offset, (j.config ->> 'drop_after') as drop_after,
         -- A job that has never ended well was made when TimescaleDB says that it ended: long ago.
         nullif(s.last_successful_finish, '-infinity') as succeeded_at, s.last_run_status = 'Failed' as failed, s.total_runs,
         (select e.err_message from timescaledb_information.job_errors e where e.job_id = j.job_id order by e.finish_time desc limit 1) as error
    from timescaledb_information.jobs j
    left join timescaledb_information.job_stats s on s.job_id = j.job_id
), aggregate as (
  select format('%I.%I', a.view_schema, a.view_name) as name, a.view_schema, a.materialized_only, f.as_of, j.*
    from timescaledb_information.continuous_aggregates a
    left join pulso.freshness f on f.kind = 'continuous aggregate' and f.name = format('%I.%I', a.view_schema, a.view_name)
    left join job j
      on j.proc_name = 'policy_refresh_continuous_aggregate'
         -- Releases name the one or the other.
     and ((j.hypertable_schema, j.hypertable_name) = (a.view_schema, a.view_name)
          or (j.hypertable_schema, j.hypertable_name) = (a.materialization_hypertable_schema, a.materialization_hypertable_name))
), retention as (
  select j.*, format('%I.%I', j.hypertable_schema, j.hypertable_name) as source, to_regclass(format('%I.%I', j.hypertable_schema, j.hypertable_name)) as relation,
         j.hypertable_schema = 'pulso' or exists (
           select from timescaledb_information.continuous_aggregates a
            where (a.materialization_hypertable_schema, a.materialization_hypertable_name) = (j.hypertable_schema, j.hypertable_name) and a.view_schema = 'pulso'
         ) as of_figures
    from job j
   where j.proc_name = 'policy_retention'
)
select 'warning' as severity,
       name as object,
       'has no refresh policy: without pulso serve or worker late changes never reach it' as finding,
       format('select add_continuous_aggregate_policy(%L, start_offset => interval ''90 days'', end_offset => interval ''1 hour'', schedule_interval => interval ''1 hour'');', name) as cure
  from aggregate
 where job_id is null
 union all
select 'wrong', name,
       case when not scheduled then 'its refresh policy is switched off' else format('its refresh policy fails: %s', coalesce(error, 'see timescaledb_information.job_errors')) end,
       case when not scheduled then format('select alter_job(%s, scheduled => true);', job_id)
            else format('Mend that, then `pulso job run refresh_views`, or wait for the policy; select * from timescaledb_information.job_errors where job_id = %s;', job_id) end
  from aggregate
 where failed or not scheduled
 union all
select 'warning', f.name, f.detail, 'Run `pulso job run refresh_views`; `pulso serve` or `pulso worker` does it by itself.'
  from pulso.freshness f
 where f.kind = 'continuous aggregate' and f.detail is not null
 union all
select 'warning', name,
       format('was refreshed last %s ago: changes of hours that it has added up do not count since', date_trunc('second', now() - r.refreshed_at)),
       'Run `pulso job run refresh_views`; `pulso serve` or `pulso worker` does it about every minute. TimescaleDB''s workers: see max_worker_processes, timescaledb.max_background_workers.'
  from aggregate
 cross join lateral (select greatest(as_of, succeeded_at) as refreshed_at) as r
 where r.refreshed_at < now() - greatest(current_setting('doctor.stale')::interval, 2 * schedule_interval)
   and not coalesce(failed, false) and coalesce(scheduled, true)
 union all
select 'warning', name,
       format('its refresh policy looks back %s: a sale that is voided later stays in it until pulso serve or worker refreshes all', start_offset),
       format('select remove_continuous_aggregate_policy(%L); select add_continuous_aggregate_policy(%1$L, start_offset => interval %L, end_offset => interval ''1 hour'', schedule_interval => interval ''1 hour'');',
         name, current_setting('doctor.late'))
  from aggregate
 where start_offset < current_setting('doctor.late')::interval
 union all
select 'warning', name, 'is not real-time: new sales are missing until its next refresh',
       format('alter materialized view %s set (timescaledb.materialized_only = false);', name)
  from aggregate
 where materialized_only
 union all
select case when r.of_figures or h.reason is not null or w.holders is not null then 'wrong' else 'warning' end,
       r.source,
       case when r.of_figures then format('a retention policy drops after %s what it has added up', r.drop_after)
            else format('a retention policy drops its rows after %s and asks nobody', r.drop_after)
              || coalesce(': ' || h.reason, '') || coalesce('; needed by ' || w.holders, '') end,
       format('select remove_retention_policy(%L);', r.source)
         || case when r.of_figures then ''
                 else format(' insert into pulso.history_rule (source, drop_after) values (%L, %L); job keep_history drops what everybody has counted and loaded.', r.source, r.drop_after) end
  from retention r
 cross join lateral (select case when not r.of_figures then pulso.history_held(r.relation) end as reason) as h
 cross join lateral (select string_agg(o.holder, ', ' order by o.holder) as holders from pulso.history_hold o where to_regclass(o.source) = r.relation) as w
 where r.of_figures
    or h.reason is not null
    or w.holders is not null
       -- Rollups count its rows.
    or exists (select from pg_trigger t join pg_proc p on p.oid = t.tgfoid where t.tgrelid = r.relation and p.pronamespace = 'pulso'::regnamespace and p.proname like 'capture%')
 order by 2, 1
