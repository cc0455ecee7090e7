-- How old the figures of each rollup and materialized view are.
select to_jsonb(x)
  from (
        select f.name, f.kind, to_char(f.as_of at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as as_of,
               round(extract(epoch from f.staleness))::bigint as staleness_seconds, f.pending_deltas as pending_changes, f.detail
          from pulso.freshness f
         order by f.name
         limit 1000
       ) x
