-- Rollups and materialized views for /metrics.
select f.name,
       f.kind,
       extract(epoch from f.staleness)::float8 as staleness_seconds,
       f.pending_deltas::float8 as pending,
       f.detail is not null as wrong
  from pulso.freshness f
