/**
 * What keeps the promise, each with the test that fails without it. `npm run guards` switches them off, one at a time, in a
 * copy of the tree, and sees that test fail; docs/reliability.md has the table.
 * file, from, to: the guard, switched off. test: file and name of the test that has to fail.
 */
export const GUARDS = [
  {
    guard: "The reconciler queues again what the stream lost", file: "src/uploads/reconcile.ts",
    from: "      await appendAll(redis, stream, lost.map(", to: "      if (lost.length < 0) await appendAll(redis, stream, lost.map(",
    test: ["test/faults/kill-sweeps.test.ts", "at inbox-listed"],
  },
  {
    guard: "Rows are committed before the upload leaves the inbox", file: "src/uploads/settle.ts",
    from: "      fresh = await queries.insertSettled(", to: "      await inbox.remove(items.map(({ manifest }) => manifest));\n      fresh = await queries.insertSettled(",
    test: ["test/faults/kill-sweeps.test.ts", "at manifests-removed, the 1. time"],
  },
  {
    guard: "A manifest is created only if there is none", file: "src/uploads/inbox.ts",
    from: "encodeRecord(wanted, bytes), { ifAbsent: true })", to: "encodeRecord(wanted, bytes), {})",
    test: ["test/uploads/protocol.test.ts", "Idempotency-Key"],
  },
  {
    guard: "The primary key of files decides who is new", file: "src/uploads/queries.ts",
    from: "       on conflict (id) do nothing\n       returning id, owner_id", to: "       returning id, owner_id",
    also: { file: "sql/002_files.sql", from: "  id uuid primary key,", to: "  id uuid," },
    test: ["test/uploads/settle.test.ts", "delivered to two workers at once"],
  },
  {
    guard: "LMDB flushes before an upload is promised", file: "src/objects/records.ts",
    from: "    overlappingSync: false,", to: "    overlappingSync: false,\n    noSync: true,",
    test: ["test/faults/disk.test.ts", "gets no 202 for small uploads"],
  },
  {
    guard: "An index is opened while nobody writes to it", file: "src/objects/records.ts",
    from: "await created.exclusive(OPEN_WITHIN_MS, openIndex)", to: "await created.exclusive(OPEN_WITHIN_MS, () => {}).then(openIndex)",
    test: ["test/objects/index-lock.test.ts", "takes back nothing"],
  },
  {
    guard: "Every write to an index is in a turn", file: "src/objects/records.ts",
    from: "const result = lock.shared(write);", to: "const result = write();",
    test: ["test/objects/index-lock.test.ts", "takes back nothing"],
  },
  {
    guard: "The bytes of a large upload are flushed before its record is written", file: "src/objects/large.ts",
    from: "Promise.all([fdatasyncAsync(fd), ", to: "Promise.all([typeof fdatasyncAsync, ",
    test: ["test/objects/durability.test.ts", "in a folder that was there"],
  },
  {
    guard: "So is the folder that has their name", file: "src/objects/large.ts",
    from: "fdatasyncAsync(fd), flushFolder(dirname(path))]", to: "fdatasyncAsync(fd)]",
    test: ["test/objects/durability.test.ts", "in a folder that was there"],
  },
  {
    guard: "So is the folder of a name in the storage", file: "src/objects/large.ts",
    from: "      await flushFolder(dirname(join(folder, file)));\n", to: "",
    test: ["test/objects/durability.test.ts", "taken over from another store"],
  },
  {
    guard: "A COMMIT is durable, whatever the server is set to", file: "src/db/pool.ts",
    from: "current_setting('synchronous_commit') = 'off' then", to: "current_setting('synchronous_commit') = 'never' then",
    test: ["test/db/pool.test.ts", "durable off"],
  },
  {
    guard: "PostgreSQL itself gives up what a request no longer waits for", file: "src/db/pool.ts",
    from: "      await limit(client, budgetMs ?? STATEMENT_TIMEOUT_MS);\n", to: "",
    test: ["test/db/slow-statements.test.ts", "no more connections"],
  },
  {
    guard: "Bytes that may be swept are not promised any more", file: "src/uploads/inbox.ts",
    from: "      assertUnswept(received);\n      if (await create", to: "      if (await create",
    test: ["test/uploads/settle-races.test.ts", "as a new upload"],
  },
  {
    guard: "Other bytes under one Idempotency-Key are refused", file: "src/uploads/accept.ts",
    from: "if (firstSha256 !== received.sha256) throw", to: "if (firstSha256.length < 0) throw",
    test: ["test/uploads/protocol.test.ts", "of other bytes is refused"],
  },
  {
    guard: "An inbox record is held against its checksum", file: "src/uploads/inbox-record.ts",
    from: " || crc32(text) !== buffer.readUInt32BE(SUM_AT)", to: "",
    test: ["test/uploads/inbox-rot.test.ts", "one digit of its id"],
  },
  {
    guard: "One sender takes the place of a record that cannot be read", file: "src/uploads/inbox.ts",
    from: "replaceUnless(() => true,", to: "replaceUnless(() => false,",
    test: ["test/uploads/inbox-rot.test.ts", "one sender takes the place"],
  },
  {
    guard: "Only files that a store named are swept", file: "src/objects/large.ts",
    from: "        if (!FILE_NAME.test(file)) continue;\n", to: "",
    test: ["test/objects/disk-trouble.test.ts", "no store put there"],
  },
  {
    guard: "Only what is old is swept", file: "src/uploads/reconcile.ts",
    from: "inbox.sweep(new Date(clock.now().getTime() - orphanAgeMs)", to: "inbox.sweep(new Date(clock.now().getTime() + orphanAgeMs)",
    test: ["test/uploads/reconcile.test.ts", "after a day, and not before"],
  },
  {
    guard: "What was given up is not queued again", file: "src/uploads/reconcile.ts",
    from: "!removed.has(id) && !dead.has(id));", to: "!removed.has(id));",
    test: ["test/uploads/reconcile.test.ts", "neither queued again"],
  },
  {
    guard: "Bytes are held against their hash before they are stored", file: "src/uploads/store-object.ts",
    from: "  if (measure.sha256() !== sha256) throw damaged();", to: "",
    test: ["test/uploads/healing.test.ts", "large upload's"],
  },
  {
    guard: "An object that is there already is read before it is believed", file: "src/uploads/store-object.ts",
    from: "    if (stored || (!known && (await verifier.verify(expected)).good)) return;", to: "    if (stored || !known) return;",
    test: ["test/files/damage.test.ts", ""],
  },
  {
    guard: "A download is held against its hash", file: "src/objects/checked-stream.ts",
    from: "  if (found !== sha256) throw new Damaged", to: "  if (found.length < 0) throw new Damaged",
    test: ["test/files/damage.test.ts", ""],
  },
  {
    guard: "An infrastructure error spends no attempt", file: "src/uploads/settle.ts",
    from: "  if (error instanceof Unavailable) throw error;\n  if (error instanceof ItemTrouble)", to: "  if (error instanceof ItemTrouble)",
    test: ["test/uploads/settle.test.ts", "because storage cannot be reached"],
  },
  {
    guard: "A row at fault stands alone", file: "src/uploads/settle.ts",
    from: "      if (items.length === 1) return spendAttempt(", to: "      for (const item of items.slice(1)) await spendAttempt(item.entry, item, toTrouble(error), again);\n      if (items.length > 0) return spendAttempt(",
    test: ["test/uploads/poison.test.ts", ""],
  },
  {
    guard: "Counting the third attempt and writing the dead letter are one", file: "src/uploads/settle.ts",
    from: "    const attempts = await db.transaction(async (tx) => {", to: "    const attempts = await (async (tx: typeof db) => {",
    also: { file: "src/uploads/settle.ts", from: "      return counted;\n    });", to: "      return counted;\n    })(db);" },
    test: ["test/faults/kill-sweeps.test.ts", "at attempt-counted, the 3. time"],
  },
  {
    guard: "What a dead worker left is claimed", file: "src/stream/consumer.ts",
    from: "      const abandoned = await claimAbandoned();", to: "      const abandoned: Entry[] = claimIdleMs < 0 ? await claimAbandoned() : [];",
    test: ["test/stream/consumer.test.ts", ""],
  },
  {
    guard: "A slow batch is kept from being claimed", file: "src/stream/consumer.ts",
    from: "setInterval(() => void touch(entries), claimIdleMs / 3)", to: "setInterval(() => claimIdleMs < 0 && void touch(entries), claimIdleMs / 3)",
    test: ["test/stream/consumer.test.ts", ""],
  },
  {
    guard: "The group is made again after FLUSHALL", file: "src/stream/consumer.ts",
    from: "/^(NOGROUP|UNBLOCKED|ERR no such key)/.test(error.message)", to: "/^nothing/.test(error.message)",
    test: ["test/faults/redis.test.ts", "FLUSHALL"],
  },
  {
    guard: "Commands are not queued while Redis is away", file: "src/stream/redis.ts",
    from: "    enableOfflineQueue: false,\n    enableAutoPipelining", to: "    enableOfflineQueue: true,\n    enableAutoPipelining",
    test: ["test/faults/redis-memory.test.ts", "down"],
  },
  {
    guard: "An evicting Redis is refused", file: "src/stream/eviction.ts",
    from: "    if (policy) throw new Error(refusalOf(policy));", to: "    if (policy === \"\") throw new Error(refusalOf(policy));",
    test: ["test/main/eviction.test.ts", ""],
  },
  {
    guard: "An inbox entry goes only as long as it is the one that was settled", file: "src/uploads/inbox.ts",
    from: "(record) => isOf(settled, readRecord(record)?.manifest)", to: "() => true",
    test: ["test/uploads/settle-races.test.ts", ""],
  },
  {
    guard: "An upload from the future counts as old", file: "src/uploads/inbox-listing.ts",
    from: "clock.now().getTime() + MOST_SKEW_MS", to: "clock.now().getTime() + MOST_SKEW_MS * 1e9",
    test: ["test/faults/clock.test.ts", "the worker an hour behind"],
  },
  {
    guard: "Places are limited", file: "src/uploads/admission.ts",
    from: "    if (takenBy === \"all\") throw", to: "    if (needsBytes < 0) throw",
    test: ["test/uploads/admission.test.ts", ""],
  },
  {
    guard: "A backlog that is too long closes the door", file: "src/uploads/admission.ts",
    from: "    backlog.assertRoom(coming, bringsBytes);", to: "",
    test: ["test/uploads/admission.test.ts", ""],
  },
  {
    guard: "The door closes before the disk is full", file: "src/uploads/admission.ts",
    from: "    if (lacking <= 0) return true;", to: "    if (lacking < Infinity) return true;",
    test: ["test/uploads/admission.test.ts", ""],
  },
  {
    guard: "Uploads a minute are limited", file: "src/http/rate-limit.ts",
    from: "    if (waitMs > 0) throw", to: "    if (waitMs > 1e9) throw",
    test: ["test/http/rate-limit.test.ts", ""],
  },
  {
    guard: "A body that drips is given up", file: "src/http/server.ts",
    from: "  keepMinimumRate(server, {", to: "  if (idleMs < 0) keepMinimumRate(server, {",
    test: ["test/http/patience.test.ts", ""],
  },
  {
    guard: "What killed processes left in a bucket is swept", file: "src/objects/s3-sweep.ts",
    from: "    let aborted = 0;", to: "    let aborted = 0;\n    if (before) return aborted;",
    test: ["test/objects/s3-sweep.test.ts", ""],
  },
  {
    guard: "The audit counts acknowledgements by themselves", file: "src/uploads/audit/tally.ts",
    from: "    if (committed.outcome === \"created\") add(", to: "    if (committed.outcome !== \"created\") add(",
    test: ["test/uploads/audit.test.ts", "a loss is an alarm"],
  },
  {
    guard: "The audit tells of what was never accepted", file: "src/uploads/audit/audit.ts",
    from: "const surplus = end ? beyond(", to: "const surplus = end && found.files < 0 ? beyond(",
    test: ["test/uploads/audit.test.ts", "a surplus is an alarm"],
  },
  {
    guard: "Pages of other sites cannot press our buttons", file: "src/http/same-origin.ts",
    from: "  if (!ours) throw", to: "  if (!ours && req.method === \"NONE\") throw",
    test: ["test/http/same-origin.test.ts", ""],
  },
  {
    guard: "Looking at what waits does not read it", file: "src/uploads/inbox-listing.ts",
    from: "= listsKeys(store)\n", to: "= listsKeys(store) && limit < 0\n",
    test: ["test/uploads/reconcile.test.ts", "reads none of it"],
  },
  {
    guard: "The same key heals a file that is known to be damaged", file: "src/uploads/accept.ts",
    from: "    if (stored && !stored.damaged) {", to: "    if (stored) {",
    test: ["test/uploads/reconcile.test.ts", "came again for a file whose object is damaged"],
  },
  {
    guard: "An address has at most as many places as are free", file: "src/http/places.ts",
    from: "    if (!fits(needsBytes, ownOf(address), leftFor(needsBytes))) return", to: "    if (needsBytes < 0) return",
    test: ["test/uploads/admission.test.ts", ""],
  },
  {
    guard: "A range is held against the sums of its blocks", file: "src/objects/block-sums.ts",
    from: "      if (sum !== sums[Math.floor(at / BLOCK_BYTES)]) throw", to: "      if (sums.length === 0) throw",
    test: ["test/objects/block-sums.test.ts", ""],
  },
  {
    guard: "A worker that is to end leaves a long inbox to the next one", file: "src/uploads/reconcile.ts",
    from: "      stopping?.throwIfAborted();\n      yield", to: "      yield",
    also: { file: "src/uploads/audit/in-flight.ts", from: "        stopping?.throwIfAborted();\n", to: "" },
    test: ["test/faults/s3.test.ts", "told to end"],
  },
  {
    guard: "Parts behind a form's end are refused", file: "src/http/multipart.ts",
    from: "        if (name === undefined || busboy._complete) refuse(\"MALFORMED_MULTIPART\");\n        else if (filename", to: "        if (name === undefined) refuse(\"MALFORMED_MULTIPART\");\n        else if (filename",
    test: ["test/uploads/bad-input-multipart.test.ts", "a file behind its end"],
  },
  {
    guard: "Garbage that grew old is collected before it is much", file: "src/core/garbage.ts",
    from: "  setInterval(look, LOOK_EVERY_MS).unref();", to: "  look();",
    test: ["test/core/garbage.test.ts", "stays small"],
  },
  {
    guard: "Downloads have places, too", file: "src/files/downloads.ts",
    from: "    if (takenBy === undefined) return", to: "    if (takenBy !== null) return",
    test: ["test/files/downloads.test.ts", "places for downloads"],
  },
  {
    guard: "Slow readers leave connections to the bucket", file: "src/main/context.ts",
    from: "    maxConnections: BRISK_CONNECTIONS + config.MAX_CONCURRENT_DOWNLOADS,\n", to: "",
    test: ["test/files/downloads.test.ts", "leave the bucket's other connections"],
  },
  {
    guard: "A reader that drips is given up", file: "src/http/server.ts",
    from: "  keepAnswerRate(server, {", to: "  if (idleMs < 0) keepAnswerRate(server, {",
    test: ["test/files/downloads.test.ts", "DOWNLOAD_MIN_BYTES_PER_SECOND"],
  },
  {
    guard: "Of two requests at one offset of an upload one is first", file: "src/uploads/resumable/partial-uploads.ts",
    from: "record, { ifAbsent: true })).stored;", to: "record, {})).stored;",
    test: ["test/uploads/tus-broken-off.test.ts", "goes on at either of them"],
  },
  {
    guard: "Complete is said of nothing that is not promised", file: "src/uploads/resumable/resumable.ts",
    from: "const isNew = await finish(now, hashes.take(incarnationOf(now), offset), admit);", to: "const isNew = false;",
    test: ["test/uploads/tus-crashes.test.ts", "is not called complete"],
  },
  {
    guard: "What came of a request that broke off stays", file: "src/uploads/resumable/piece-intake.ts",
    from: "if (why && (whole || ending === \"overlong\")) throw why;", to: "if (why) throw why;",
    test: ["test/uploads/tus-broken-off.test.ts", "breaks off is kept"],
  },
  {
    guard: "A connection that died gives way", file: "src/uploads/resumable/resumable.ts",
    from: "    if (intake && intake.silentMs() >= silentMs) intake.stop();\n", to: "",
    test: ["test/uploads/tus-broken-off.test.ts", "died without a word"],
  },
  {
    guard: "Bytes of another checksum are not kept", file: "src/uploads/resumable/piece-writer.ts",
    from: "  if (!sum.matches()) throw", to: "  if (!sum) throw",
    test: ["test/uploads/tus-protocol.test.ts", "are refused with 460"],
  },
  {
    guard: "Pieces are held against what came before they are promised", file: "src/uploads/resumable/resumable-finish.ts",
    from: "  if (asItCame !== undefined && asItCame !== sha256) throw", to: "  if (asItCame === sha256 && sha256 === \"\") throw",
    test: ["test/uploads/tus-crashes.test.ts", "bytes that rot"],
  },
  {
    guard: "Pieces of an upload under way are not swept", file: "src/uploads/inbox-listing.ts",
    from: "    await spareUnfinished(orphans, stopping);", to: "",
    test: ["test/uploads/tus-crashes.test.ts", "the sweeper leaves"],
  },
  {
    guard: "Pieces that may be a manifest's do not go with their record", file: "src/uploads/resumable/resumable-expiry.ts",
    from: "    if (isEnded && partial.state === \"open\") await", to: "    if (isEnded) await",
    test: ["test/uploads/tus-crashes.test.ts", "ends when nothing has"],
  },
  {
    guard: "An upload whose process died after its promise is known by it", file: "src/uploads/resumable/resumable-finish.ts",
    from: "      if (await isPromised(claimed, isFirst, error, pieces)) return false;\n", to: "",
    test: ["test/uploads/tus-crashes.test.ts", "died right after its promise"],
  },
  {
    guard: "A piece that comes after the upload was finished elsewhere does not count", file: "src/uploads/resumable/piece-writer.ts",
    from: "    if (now?.nonce === partial.nonce && now.state === \"open\") return sizeBytes;", to: "    if (at >= 0) return sizeBytes;",
    test: ["test/uploads/tus-bucket-races.test.ts", "put together late"],
  },
  {
    guard: "Ending an upload and finishing it exclude each other", file: "src/uploads/resumable/partial-uploads.ts",
    from: "partial.upload_id, isExactly(partial), encodeChecked(PartialUpload, next));", to: "partial.upload_id, () => true, encodeChecked(PartialUpload, next));",
    test: ["test/uploads/tus-crashes.test.ts", "begins to finish is not terminated"],
  },
  {
    guard: "What a manifest names stays when pieces are tidied up", file: "src/uploads/resumable/resumable-finish.ts",
    from: "new Set([named, lentKey]", to: "new Set([lentKey]",
    test: ["test/uploads/tus-crashes.test.ts", "more is small"],
  },
  {
    guard: "Other bytes of a resumable upload under one Idempotency-Key are refused, too", file: "src/uploads/resumable/resumable-finish.ts",
    from: "    if (isFirst || (error instanceof Failure && error.code === \"IDEMPOTENCY_KEY_REUSED\")) return false;\n", to: "",
    also: { file: "src/uploads/resumable/resumable-finish.ts", from: " || (!(error instanceof Damaged) && promised !== (await hashOf(pieces)))) return false;", to: ") return false;" },
    test: ["test/uploads/tus-protocol.test.ts", "other bytes than another door took"],
  },
  {
    guard: "A resumable upload is its owner's alone", file: "src/uploads/resumable/resumable.ts",
    from: "    if (partial?.owner_id === ownerId && partial.state", to: "    if (partial && partial.state",
    test: ["test/uploads/tus-protocol.test.ts", "somebody else's"],
  },
  {
    guard: "A batch of events is recorded once, by its id", file: "src/events/record.ts",
    from: "[...fresh].flatMap((id) => batches.get(id)!.events)", to: "[...batches.values()].flatMap(({ events }) => events)",
    test: ["test/faults/events-kills.test.ts", "at events-recorded, the 1. time"],
  },
  {
    guard: "An event with an id is counted once, however often it comes", file: "src/events/record.ts",
    from: "event[5] === null || fresh.has(place)", to: "event[5] === null || place >= 0",
    test: ["test/faults/events-side-by-side.test.ts", "sent five times"],
  },
  {
    guard: "So it is within one batch", file: "src/events/record.ts",
    from: "      if (sent.known.has(eventId)) return;\n", to: "",
    test: ["test/faults/events-side-by-side.test.ts", "sent five times"],
  },
  {
    guard: "Two workers write the same ids in the same order", file: "src/events/queries.ts",
    from: "select event_key from sent order by event_key\n", to: "select event_key from sent\n",
    test: ["test/events/exact-figures.test.ts", "ids of events"],
  },
  {
    guard: "Figures are written in the transaction of the rows", file: "src/events/record.ts",
    from: "queries.addQuarters(tx,", to: "queries.addQuarters(db,",
    test: ["test/faults/events-kills.test.ts", "at events-written, the 1. time"],
  },
  {
    guard: "A user counts once a day, though in many quarters", file: "src/events/queries.ts",
    from: "returning site_id, day, xmax = 0 as is_new", to: "returning site_id, day, true as is_new",
    test: ["test/faults/events-kills.test.ts", "at batch-acknowledged, the 1. time"],
  },
  {
    guard: "A user is taken for written once that is committed", file: "src/events/record.ts",
    from: "    await failpoint(\"events-written\");\n", to: "    users.remember(seen, figures, server);\n    await failpoint(\"events-written\");\n",
    also: { file: "src/events/record.ts", from: "      users.forget();\n      throw error;", to: "      throw error;" },
    test: ["test/faults/events-postgres.test.ts", "lost before its COMMIT"],
  },
  {
    guard: "A batch is acknowledged after it was worked on", file: "src/stream/consumer.ts",
    from: "      const failed = await handle(entries);\n", to: "      await acknowledge(entries);\n      const failed = await handle(entries);\n",
    test: ["test/faults/events-kills.test.ts", "at events-written, the 1. time"],
  },
  {
    guard: "Events leave the disk after they were recorded", file: "src/events/record-spool.ts",
    from: "        await recordOne(one);\n", to: "        void recordOne(one).catch(() => {});\n",
    test: ["test/faults/events-kills.test.ts", "the worker killed at events-written"],
  },
  {
    guard: "Events are flushed to the disk before they are promised", file: "src/events/accept.ts",
    from: "      await spool.put(unit);\n", to: "      void spool.put(unit).catch(() => {});\n",
    test: ["test/faults/events-spool.test.ts", "gets no 202 for events"],
  },
  {
    guard: "On the disk and in the stream a batch has the same id", file: "src/events/accept.ts",
    from: "putIntoSpool(batches, error);", to: "putIntoSpool(batches.map(({ body }) => ({ id: newId(), body })), error);",
    test: ["test/faults/events-spool.test.ts", "its answers are lost"],
  },
  {
    guard: "Events that wait in Redis are limited", file: "src/events/backlog.ts",
    from: "    if (streamBytes >= mostStreamBytes) throw", to: "    if (streamBytes < 0) throw",
    test: ["test/faults/events-spool.test.ts", "the stream fills up"],
  },
  {
    guard: "Events that wait on the disk are limited", file: "src/events/backlog.ts",
    from: "    if (spoolBytes + takes > mostSpoolBytes) throw", to: "    if (spoolBytes + takes < 0) throw",
    test: ["test/faults/events-spool.test.ts", "the spool fills up"],
  },
  {
    guard: "A batch of events at fault takes no other with it", file: "src/events/record.ts",
    from: "      if (batches.length === 1) return judge(", to: "      if (batches.length > 0) return judge(",
    test: ["test/faults/events-poison.test.ts", ""],
  },
  {
    guard: "An event at fault takes no other of its batch with it", file: "src/events/record.ts",
    from: "    if (events.length === 1 || faulty.size >= MOST_SINGLED_OUT) {", to: "    if (events.length > 0) {",
    test: ["test/faults/events-poison.test.ts", ""],
  },
];
