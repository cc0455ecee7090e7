-- Objects of the contract that show every role every shop, where roles are bound to shops.
select case when exists (select from pg_roles r
                          where r.oid in (select a.role::oid from pulso.access a) and has_table_privilege(r.oid, u.relation, 'select'))
            then 'wrong' else 'note' end as severity,
       format('%I.%I', u.schema, u.name) as object,
       'it shows whoever may read it the rows of every shop' as finding,
       'Run `pulso migrate up`, or as its owner: select pulso.scope_contract()' as cure
  from pulso.unscoped u
 union all
select 'wrong', format('%I.%I', n.nspname, c.relname),
       format('role %s is bound to shops and may read the rows of every shop there', r.rolname),
       format('revoke all on %s from %s', c.oid::regclass, r.oid::regrole)
  from pulso.access a
  join pg_roles r on pg_has_role(r.oid, a.role::oid, 'usage') and not pg_has_role(r.oid, 'pg_read_all_data', 'usage')
  join pulso.role_scope s on s.role = r.rolname and s.stores is not null
  join pg_class c on c.relkind in ('r', 'p', 'v', 'm', 'f') and has_table_privilege(r.oid, c.oid, 'select')
  join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = 'analytics_all'
    or n.nspname = 'public' and c.relname in ('sales', 'sale_items', 'sale_payments', 'products', 'customers', 'cashiers') and not c.relrowsecurity
 group by 1, 2, 3, 4
 order by 1 desc, 2
