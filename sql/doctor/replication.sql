-- Replication slots that keep WAL, and publications that carry Pulso's own tables.
select case when s.active then 'warning' else 'wrong' end as severity,
       format('replication slot %s', s.slot_name) as object,
       format('%s; it keeps %s of WAL', case when s.active then 'its reader is behind' else 'nobody reads it' end,
              pg_size_pretty(coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn), 0))) as finding,
       format('Bring its reader back, or drop it: select pg_drop_replication_slot(%L)', s.slot_name) as cure
  from pg_replication_slots s
 where not pg_is_in_recovery()
   and (not s.active or pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn) > current_setting('doctor.wal')::numeric)
 union all
select 'note', format('publication %s', p.pubname), 'FOR ALL TABLES: it carries base and delta tables of rollups too',
       'Publish the shop''s tables by name; make the rollups on the subscriber instead.'
  from pg_publication p
 where p.puballtables
   and exists (select from pulso.rollups)
