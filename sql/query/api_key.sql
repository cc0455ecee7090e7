-- The key with this hash, if it is good. $1: SHA-256 of the key.
select k.name, k.role, k.stores, k.per_minute
  from pulso.api_key k
 where k.hash = $1
   and k.revoked_at is null
   and (k.expires_at is null or k.expires_at > now())
