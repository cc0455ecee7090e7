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
select 'wrong', 'folder', w.why || ': figures stay exact, reads grow slower', w.cure
  from (select current_setting('max_worker_processes')::int as slots,
               regexp_split_to_array(current_setting('shared_preload_libraries'), '\s*,\s*') @> '{pulso}'
               and coalesce(current_setting('pulso.fold', true), 'on') = 'on' as should,
               exists (select from pg_stat_activity a where a.backend_type = 'pulso launcher') as launched,
               (select count(*) from pg_database d where d.datallowconn and not d.datistemplate) as databases) as s
 cross join lateral (
       values (not should, 'nobody folds this database', 'Preload the extension, or run `pulso serve` or `pulso worker`.'),
              (should and launched,
               format('nobody folds this database, since no background worker is free for it (max_worker_processes is %s, databases are %s)', slots, databases),
               format('alter system set max_worker_processes = %s; and restart. Until then run `pulso serve` or `pulso worker`, which fold too. A server that has just started takes five seconds.',
                      greatest(2 * slots, 8 + databases))),
              (should and not launched,
               'nobody folds this database, since the launcher of the extension does not run',
               'Its log says why: too many background workers (raise max_worker_processes, and restart), or a library of another version. Until then run `pulso serve` or `pulso worker`.')
       ) as w (applies, why, cure)
 where w.applies
   and not pulso.folder_running()
   and not exists (
         select from pg_stat_activity a
          where a.application_name = 'pulso fold' and a.datname = current_database())
   and exists (select from pulso.rollup)
