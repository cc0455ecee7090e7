-- Keys of the HTTP service. The keys themselves are not kept, only their hashes.
-- Locks: none, the table is new. Undo: drop table pulso.api_key.

create table pulso.api_key (
  id bigint generated always as identity primary key,
  name text not null,
  hint text not null,
  hash bytea not null,
  role text not null,
  stores uuid[],
  per_minute integer,
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  revoked_at timestamptz,
  constraint api_key_name_key unique (name),
  constraint api_key_hash_key unique (hash),
  constraint api_key_name_plain check (name ~ '^[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}$'),
  constraint api_key_hash_is_sha256 check (octet_length(hash) = 32),
  constraint api_key_role_known check (role in ('viewer', 'manager', 'admin')),
  constraint api_key_stores_not_empty check (cardinality(stores) > 0),
  constraint api_key_per_minute_positive check (per_minute > 0)
);
comment on table pulso.api_key is 'Keys of the HTTP service, made by `pulso key create`. From the first row on the service asks for a key.';
comment on column pulso.api_key.hint is 'The beginning of the key, to tell keys apart.';
comment on column pulso.api_key.hash is 'SHA-256 of the key. The key holds 256 random bits, so no slow hash is needed.';
comment on column pulso.api_key.stores is 'Shops that it may see; NULL: all.';
comment on column pulso.api_key.per_minute is 'Requests a minute; NULL: the service''s default.';
