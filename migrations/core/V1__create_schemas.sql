-- The schema of the contract. Schema `pulso` (the engine's, with the runner's own history) is made by the runner.
-- Locks: none. Undo: drop schema analytics cascade.

create schema if not exists analytics;
comment on schema analytics is 'The numbers of the shop, to be queried as plain SQL. Made by Pulso.';
