-- Who owns files. Until people can log in there is one built-in account, and everything belongs to it.
-- Locks: new table only. Undo: drop table accounts;
create table accounts (
  id uuid primary key,
  name text not null constraint accounts_name_once unique,
  created_at timestamptz not null default now()
);

insert into accounts (id, name) values ('00000000-0000-8000-8000-000000000000', 'public');
