-- Materialized views of the contract.
select format('%I.%I', v.schemaname, v.matviewname)
  from pg_catalog.pg_matviews v
 where v.schemaname = 'analytics'
 order by 1
