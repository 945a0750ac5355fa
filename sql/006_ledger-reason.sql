-- The ledger also tells what became of a file later: 'damaged' and 'repaired' (its object rotted, and was made good again),
-- 'discarded' (a person threw a dead letter away). Such rows say why; a 'stored' row has nothing to say.
-- Locks: file_events, for a moment. Undo: alter table file_events drop column reason;
alter table file_events add column reason text;
