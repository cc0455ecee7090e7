-- Keys of the service that are about to end, and keys that open something and that nobody uses.
select 'warning' as severity, format('key %s', k.name) as object, format('it ends %s', to_char(k.expires_at, 'YYYY-MM-DD HH24:MI TZ')) as finding,
       'Make another with `pulso key create` and give it to whoever uses this one; `pulso key list` shows how much that is.' as cure
  from pulso.api_key k
 where k.revoked_at is null and k.expires_at between now() and now() + interval '7 days'
   and exists (select from pulso.api_key_use u where u.name = k.name and u.last_used_at > now() - interval '7 days')
 union all
select 'note', format('key %s', k.name),
       coalesce('it was used last ' || to_char(u.last_used_at, 'YYYY-MM-DD'), 'it has never been used'),
       format('pulso key revoke %s, unless somebody waits to use it.', case when k.name ~ ' ' then quote_literal(k.name) else k.name end)
  from pulso.api_key k
 cross join lateral (select max(u.last_used_at) as last_used_at from pulso.api_key_use u where u.name = k.name) u
 where k.revoked_at is null and coalesce(k.expires_at > now(), true)
   and greatest(u.last_used_at, k.created_at) < now() - interval '90 days'
 order by 1 desc, 2
