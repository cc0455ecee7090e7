-- Which cluster the primary is, on which timeline: positions of another mean nothing here.
select format('%s/%s', s.system_identifier,
              ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int)
  from pg_catalog.pg_control_system() s
