-- How many rows and bytes the ledger holds, kept in the transaction that adds or drops them: counting ten million
-- rows takes seconds, reading this takes microseconds. One row; its updates stay on its page (fillfactor) and leave
-- the index alone.
-- Locks: new table only. Undo: drop table ledger_totals;
create table ledger_totals (
  only_row boolean primary key default true constraint ledger_totals_one_row check (only_row),
  records bigint not null default 0,
  size_bytes bigint not null default 0
) with (fillfactor = 10);

insert into ledger_totals default values;
