-- The upload ledger: what happened to every file, and when, natively partitioned. event_time is fixed when the upload is
-- accepted, so a redelivered entry has the same key. No foreign keys: chunks are dropped by age, files are not.
-- Twin: 003_ledger.timescale.sql; keep columns equal (a test compares them).
-- Locks: new table only. Undo: drop table file_events;
create table file_events (
  event_time timestamptz not null,
  file_id uuid not null,
  event text not null,
  file_name text not null,
  size_bytes bigint not null,
  sha256 bytea not null,
  content_type text not null,
  uploader_id text,
  owner_id uuid not null,
  stream_id text,
  storage_key text not null,
  worker text not null,
  settled_at timestamptz not null,
  settle_ms double precision not null
) partition by range (event_time);

-- Rows whose week has no partition yet; src/db/partitions.ts makes the weeks ahead of time.
create table file_events_default partition of file_events default;

create index file_events_event_time_idx on file_events (event_time desc);
