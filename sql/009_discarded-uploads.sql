-- Uploads that a person threw away as dead letters. Somebody may still have such an upload in hand (a worker that stood
-- still, a stream entry that comes again): it must not be stored after all, nor become a dead letter once more.
-- event_time is the upload's own, fixed when it was accepted: the same Idempotency-Key sent again later is a new promise
-- under the same id, and is kept.
-- Locks: new table only. Undo: drop table discarded_uploads;
create table discarded_uploads (
  upload_id uuid not null,
  event_time timestamptz not null,
  discarded_at timestamptz not null default now(),
  primary key (upload_id, event_time)
);
