-- Rollups that run their query, or have much to fold.
select 'wrong' as severity, r.name as object, format('it runs its query at each read: %s', coalesce(r.reason, 'no reason given')) as finding,
       format('pulso rollup %s %s', case when r.reason ~ 'not built' then 'build' else 'repair' end, r.name) as cure
  from pulso.rollups r
 where not r.live and r.replaces is null
   and not exists (select from pulso.progress p where p.name = r.name)
 union all
select 'warning', r.name, format('%s changes are not folded yet, which each read adds up', r.pending_deltas),
       'See who holds an old transaction (`pulso doctor` names it), and that a folder runs; `pulso rollup fold` folds now.'
  from pulso.rollups r
 where r.live and r.pending_deltas > current_setting('doctor.pending')::bigint
