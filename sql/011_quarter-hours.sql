-- How many uploads became files, and their bytes, by the quarter of an hour in which they were accepted: kept by the statement
-- that settles them, so that a chart of 30 days reads 2,880 rows and not millions of the ledger's (docs/decisions/012).
-- Rows stay when old chunks of the ledger are dropped: 35,040 a year.
-- Locks: new table only; file_events is read once. Undo: drop table quarter_hours;
create table quarter_hours (
  begins_at timestamptz primary key,
  files bigint not null,
  size_bytes bigint not null
) with (fillfactor = 50);

insert into quarter_hours (begins_at, files, size_bytes)
select date_bin('15 minutes', event_time, '1970-01-01Z'), count(*), sum(size_bytes) from file_events where event = 'stored' group by 1;
