-- What tells this life of this database from any other: kept answers of another are not this one's, though the numbers of
-- the change feed may be the same. A server that recovers from a crash may have lost numbers; its statistics begin anew.
select concat_ws(' ', (select s.system_identifier from pg_catalog.pg_control_system() s),
                 (select d.oid from pg_catalog.pg_database d where d.datname = current_database()),
                 extract(epoch from pg_postmaster_start_time()),
                 (select extract(epoch from b.stats_reset) from pg_catalog.pg_stat_bgwriter b))
