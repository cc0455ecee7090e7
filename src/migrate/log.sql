create table pulso.migration_log (
  id bigint generated always as identity primary key,
  pack text not null,
  step text not null,
  action text not null,
  outcome text not null default 'running',
  checksum text,
  started_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz,
  by_role text not null default session_user,
  from_address text default coalesce(host(inet_client_addr()), 'local'),
  version text not null,
  message text,
  constraint migration_log_action_known check (action in ('up', 'undo')),
  constraint migration_log_outcome_known check (outcome in ('running', 'done', 'failed', 'interrupted'))
);
comment on table pulso.migration_log is 'Every step that pulso migrate has run: who, when, from where, how it ended. Kept when packs are undone.';
comment on column pulso.migration_log.outcome is 'running until it ends; interrupted where its runner was stopped or died.';
comment on column pulso.migration_log.checksum is 'Of the step''s text, as refinery computes it.';
comment on column pulso.migration_log.by_role is 'The role that logged in.';
comment on column pulso.migration_log.version is 'The version of pulso that ran it.';
