-- Uploads that could not be settled. settle_attempts counts the failures of those that are still being tried;
-- the third failure moves the row to dead_letters, where it stays, visible, with its bytes kept in the inbox.
-- Locks: new tables only. Undo: drop table dead_letters; drop table settle_attempts;
create table settle_attempts (
  upload_id uuid primary key,
  attempts integer not null constraint settle_attempts_counted check (attempts > 0),
  code text not null,
  reason text not null,
  first_failed_at timestamptz not null default now(),
  last_failed_at timestamptz not null default now()
);

create table dead_letters (
  upload_id uuid primary key,
  owner_id uuid,
  file_name text,
  size_bytes bigint,
  stream_id text,
  attempts integer not null,
  code text not null,
  reason text not null,
  message jsonb,
  first_failed_at timestamptz not null,
  failed_at timestamptz not null default now()
);

create index dead_letters_newest on dead_letters (failed_at desc, upload_id);
