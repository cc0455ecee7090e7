-- What each key of the service was used for, by days. A service counts in its memory, and adds up here every ten seconds.
-- Locks: ShareRowExclusive on pulso.api_key for a moment, for the foreign key: who makes or revokes a key waits. Undo: drops
-- the table; the counts are gone.

create table pulso.api_key_use (
  name text not null references pulso.api_key (name) on delete cascade,
  day date not null,
  requests bigint not null,
  refused bigint not null,
  failed bigint not null,
  last_used_at timestamptz not null,
  primary key (name, day)
);
comment on table pulso.api_key_use is 'What each key of the HTTP service was used for. Kept for 400 days; `pulso key list` shows the last 30.';
comment on column pulso.api_key_use.day is 'In UTC.';
comment on column pulso.api_key_use.requests is 'Those of a batch one by one; those refused or failed included.';
comment on column pulso.api_key_use.refused is 'Answered 4xx: malformed, not the key''s to see, or more of them than it may send.';
comment on column pulso.api_key_use.failed is 'Answered 5xx.';
comment on column pulso.api_key_use.last_used_at is 'To ten seconds.';
