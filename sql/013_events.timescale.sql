-- Analytics events, as a hypertable (docs/decisions/014). `timestamp` is when it happened, by its sender or, where that says
-- nothing, when it was accepted; fixed then, so an entry that is delivered again has the same one. `event_id` is the sender's.
-- Nothing here is unique: whether an event is counted is decided by event_batches and event_ids (014).
-- Twin: 013_events.native.sql; keep columns equal (a test compares them).
-- Locks: new table only. Undo: drop table events; drop sequence events_id_seq;
create sequence events_id_seq;

create table events (
  id bigint not null default nextval('events_id_seq'),
  site_id varchar(255) not null,
  event_type varchar(255) not null,
  path varchar(500),
  user_id varchar(255),
  timestamp timestamptz not null,
  event_id varchar(255)
);

-- Seven days a chunk. Its own index on the time alone would be read by nobody.
select create_hypertable('events', 'timestamp', chunk_time_interval => interval '7 days', create_default_indexes => false);

create index events_site_timestamp_idx on events (site_id, timestamp desc);
