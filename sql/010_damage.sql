-- Objects that are known to be damaged: not there, of another length, or other bytes than were handed in. A row stays until
-- the object is good again. What they have to be stands here, too, so that looking at them again needs no search in files.
-- `scrub` is one row: how far the slow reading of all objects has come in its round, and what it found in it.
-- Locks: new tables only. Undo: drop table scrub; drop table damaged_objects;
create table damaged_objects (
  storage_key text primary key,
  size_bytes bigint not null,
  sha256 bytea not null,
  problem text not null constraint damaged_objects_problem_known check (problem in ('missing', 'size', 'hash', 'unreadable')),
  reason text not null,
  found_by text not null,
  found_at timestamptz not null default now(),
  checked_at timestamptz not null default now()
);

create table scrub (
  only_row boolean primary key default true constraint scrub_one_row check (only_row),
  after_file uuid not null default '00000000-0000-0000-0000-000000000000',
  began_at timestamptz,
  ended_at timestamptz,
  objects bigint not null default 0,
  size_bytes bigint not null default 0,
  damaged bigint not null default 0
);

insert into scrub default values;
