-- Files as they are now. The primary key is what makes an upload become a file exactly once: a hypertable cannot
-- carry that promise, because its unique indexes must contain the time column.
-- event_time is fixed when the upload is accepted, stored_at when the worker commits.
-- Locks: new table only. Undo: drop table files;
create table files (
  id uuid primary key,
  owner_id uuid not null constraint files_owner_known references accounts (id),
  name text not null constraint files_name_length check (octet_length(name) between 1 and 255),
  size_bytes bigint not null constraint files_size_not_negative check (size_bytes >= 0),
  sha256 bytea not null constraint files_sha256_length check (octet_length(sha256) = 32),
  content_type text not null,
  uploader_id text constraint files_uploader_length check (char_length(uploader_id) <= 128),
  storage_key text not null,
  stream_id text,
  event_time timestamptz not null,
  stored_at timestamptz not null default clock_timestamp()
);

-- Serves the list of an owner's files, newest first, by keyset.
create index files_by_owner_newest on files (owner_id, event_time desc, id desc);
