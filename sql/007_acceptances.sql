-- For the audit: what became of the uploads that each web process accepted. A web process writes down, in the inbox, how
-- many it acknowledged; here stands, counted in the transaction that did it, how many of them became files and how many a
-- person discarded as dead letters. One row for each start of a web process.
-- Locks: new table only. Undo: drop table acceptances;
create table acceptances (
  accepted_by text primary key,
  stored_files bigint not null default 0,
  stored_bytes bigint not null default 0,
  discarded_files bigint not null default 0,
  discarded_bytes bigint not null default 0
) with (fillfactor = 50);
