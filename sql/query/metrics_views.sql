-- Rollups and materialized views for /metrics.
select f.name,
       f.kind,
       extract(epoch from f.staleness)::float8 as staleness_seconds,
       f.pending_deltas::float8 as pending,
       case when f.pending_deltas > 0 then extract(epoch from now() - f.folded_at)
            when f.pending_deltas = 0 then 0 end::float8 as fold_lag_seconds,
       f.detail is not null as wrong
  from pulso.freshness f
