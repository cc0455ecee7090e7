-- Whether somebody folds this database, and whether the extension's own worker could.
select 'note' as severity, 'shared_preload_libraries' as object,
       'pulso is not preloaded, so the extension has no background worker' as finding,
       'Add it (shared_preload_libraries = ''pulso'') and restart, or keep `pulso serve` or `pulso worker` running.' as cure
  from pg_settings s
 where s.name = 'shared_preload_libraries'
   and not 'pulso' = any (regexp_split_to_array(s.setting, '\s*,\s*'))
 union all
select 'warning', 'pulso.fold', 'folding by the background worker is switched off',
       'alter system set pulso.fold = on; select pg_reload_conf();'
  from pg_settings s
 where s.name = 'pulso.fold' and s.setting = 'off'
   and exists (select from pg_settings p where p.name = 'shared_preload_libraries' and p.setting ~ '\mpulso\M')
 union all
select 'wrong', 'folder', 'nobody folds this database: figures stay exact, reads grow slower',
       'Preload the extension, or run `pulso serve` or `pulso worker`.'
 where not pulso.folder_running()
   and not exists (
         select from pg_stat_activity a
          where a.application_name = 'pulso fold' and a.datname = current_database())
   and exists (select from pulso.rollup)
