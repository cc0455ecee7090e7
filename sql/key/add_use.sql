-- Adds up what keys were used for. $1: names, $2: requests, $3: refused, $4: failed. In one order, so that nodes cannot deadlock.
insert into pulso.api_key_use as u (name, day, requests, refused, failed, last_used_at)
select k.name, (now() at time zone 'UTC')::date, n.requests, n.refused, n.failed, now()
  from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) as n (name, requests, refused, failed)
  join pulso.api_key k on k.name = n.name
 order by k.name
    on conflict (name, day) do update
   set requests = u.requests + excluded.requests,
       refused = u.refused + excluded.refused,
       failed = u.failed + excluded.failed,
       last_used_at = greatest(u.last_used_at, excluded.last_used_at)
