-- Materialized views of the contract, by the names that are read.
select format('analytics.%I', v.matviewname)
  from pg_catalog.pg_matviews v
 where v.schemaname in ('analytics', 'analytics_all')
 order by 1
