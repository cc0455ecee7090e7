-- The engine. Needs the extension's files on the server (`make setup`) and a role that may create extensions.
-- Locks: none on the shop's tables. Undo: drop extension pulso (first drop the rollups that use it).

create extension if not exists pulso;
