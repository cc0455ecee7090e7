-- The keys, without what would open anything, and what each was used for in the last 30 days.
select k.name, k.hint, k.role, k.stores, k.per_minute, k.created_at, k.expires_at, k.revoked_at,
       case when k.revoked_at is not null then 'revoked' when k.expires_at <= now() then 'expired' else 'valid' end as state,
       u.last_used_at, u.requests, u.refused, u.failed
  from pulso.api_key k
 cross join lateral (
        select max(u.last_used_at) as last_used_at,
               coalesce(sum(u.requests) filter (where u.day > d.before), 0)::bigint as requests,
               coalesce(sum(u.refused) filter (where u.day > d.before), 0)::bigint as refused,
               coalesce(sum(u.failed) filter (where u.day > d.before), 0)::bigint as failed
          from (select (now() at time zone 'UTC')::date - 30 as before) d
          left join pulso.api_key_use u on u.name = k.name
       ) u
 order by k.name
