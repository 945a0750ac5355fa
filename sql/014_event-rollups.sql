-- What decides that an event is counted once, and what GET /stats reads. All of it is written by the transaction that inserts
-- the events, so that the figures equal a recount of the rows, always (docs/decisions/014).
-- A quarter is a quarter of an hour that begins at a full one, UTC: every time zone in use since 2000 is a multiple of it away,
-- so that days and hours of any of them are made of whole quarters. Keys of paths and users are the first 16 bytes of their
-- SHA-256: 500 characters of UTF-8 beside a site's 255 do not fit an index. As a uuid they are compared faster than as bytes.
-- Locks: new tables only. Undo: drop table event_batches, event_ids, event_quarters, event_paths, event_path_days, event_user_days, event_days, event_dead_letters; drop function key_of(text), day_begin(date, text);

-- Stable, as convert_to is, or it would not be inlined.
create function key_of(text) returns uuid language sql stable parallel safe
  return encode(substr(sha256(convert_to($1, 'UTF8')), 1, 16), 'hex')::uuid;

-- The first instant at which it is that day, or a later one, in the zone. Of a midnight that comes twice (Azores, Havana) PostgreSQL
-- would take the second; where a day is left out (Samoa, 2011-12-30) it has no time at all.
create function day_begin(day date, zone text) returns timestamptz language sql stable parallel safe
  return case when zone = 'UTC' then day::timestamp at time zone 'UTC' else (
    select min(instant) from generate_series(day::timestamp at time zone zone - interval '3 hours', day::timestamp at time zone zone + interval '3 hours',
                                             interval '15 minutes') as instant
    where (instant at time zone zone)::date >= day) end;

-- Batches that were recorded. An entry may be delivered again, and one that waited on the disk may be in the stream as well.
create table event_batches (
  batch_id uuid primary key,
  recorded_at timestamptz not null default now()
);
create index event_batches_recorded_at_idx on event_batches (recorded_at);

-- Events that came with an id of their sender's: the key of site and id.
create table event_ids (
  event_key uuid primary key,
  recorded_at timestamptz not null default now()
);
create index event_ids_recorded_at_idx on event_ids (recorded_at);

create table event_quarters (
  site_id varchar(255) not null,
  begins_at timestamptz not null,
  event_type varchar(255) not null,
  events bigint not null,
  primary key (site_id, begins_at, event_type)
) with (fillfactor = 70);

-- Page views that have a path: by the quarter, and by the day of UTC, which reads a hundredth of the rows.
create table event_paths (
  site_id varchar(255) not null,
  begins_at timestamptz not null,
  path_key uuid not null,
  path varchar(500) not null,
  views bigint not null,
  primary key (site_id, begins_at, path_key)
) with (fillfactor = 70);

create table event_path_days (
  site_id varchar(255) not null,
  day date not null,
  path_key uuid not null,
  path varchar(500) not null,
  views bigint not null,
  primary key (site_id, day, path_key)
) with (fillfactor = 70);

-- In which quarters of a day of UTC (bit 0: from 00:00) a user did anything.
create table event_user_days (
  site_id varchar(255) not null,
  day date not null,
  user_key uuid not null,
  quarters bit(96) not null,
  primary key (site_id, day, user_key)
) with (fillfactor = 70);

-- How many rows event_user_days has of a site's day.
create table event_days (
  site_id varchar(255) not null,
  day date not null,
  users bigint not null,
  primary key (site_id, day)
) with (fillfactor = 70);

-- What was in the stream, or on the disk, and could not be recorded: kept as it was, for a person to look at.
create table event_dead_letters (
  id bigint generated always as identity primary key,
  batch_id text not null,
  stream_id text,
  reason text not null,
  message text not null,
  events integer,
  failed_at timestamptz not null default now()
);
