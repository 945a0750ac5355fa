-- For the audit. acknowledged_*: the most that a web process is known to have acknowledged, copied here from its tally in the
-- inbox, so that the loss of a whole inbox is seen too. repeats: uploads that were taken in again under their
-- Idempotency-Key after they had been settled (the database was away, or the two crossed); the same bytes, so nothing
-- becomes of them, and their acknowledgement is not a second upload. Files of before are counted under 'unknown'.
-- Locks: acceptances, for a moment; files is read once. Undo: drop table repeats; alter table acceptances drop column
-- acknowledged_files, drop column acknowledged_bytes; delete from acceptances where accepted_by = 'unknown';
alter table acceptances
  add column acknowledged_files bigint not null default 0,
  add column acknowledged_bytes bigint not null default 0;

create table repeats (
  upload_id uuid not null,
  accepted_by text not null,
  event_time timestamptz not null,
  size_bytes bigint not null,
  constraint repeats_once primary key (upload_id, accepted_by, event_time)
);

insert into acceptances (accepted_by, stored_files, stored_bytes)
select 'unknown', count(*), sum(size_bytes) from files having count(*) > 0
on conflict (accepted_by) do nothing;
