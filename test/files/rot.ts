import { randomBytes } from "node:crypto";
import { open, readdir, rm, truncate } from "node:fs/promises";
import { join } from "node:path";
import { DeleteObjectCommand } from "@aws-sdk/client-s3";
import { createScrub } from "../../src/files/scrub.ts";
import { createVerifier } from "../../src/objects/verify.ts";
import { objectKey } from "../../src/uploads/store-object.ts";
import { fetch } from "../support/fetch.ts";
import type { World } from "../support/world.ts";

export const SMALL_OBJECT_BYTES = 4_096;
const DISK = { SMALL_OBJECT_BYTES: String(SMALL_OBJECT_BYTES) };
const S3 = { ...DISK, STORAGE_MODE: "s3" };
const LARGE_BYTES = 1_500_000; // three chunks of a file

interface Rot {
  what: string;
  settings: Record<string, string>;
  sizeBytes: number;
  problem: "hash" | "size" | "missing";
  rot: (world: World, key: string) => Promise<void>;
  /** Looked at in every way; the others only where they may differ. */
  everyWay?: boolean;
}

/** Each way in which an object goes bad: what to write into it behind the store's back, and what that is called. */
export const ROTS: Rot[] = [
  { what: "a small object with other bytes", settings: DISK, sizeBytes: 3_000, problem: "hash", rot: overwriteRecord, everyWay: true },
  { what: "a small object that is shorter", settings: DISK, sizeBytes: 3_000, problem: "size", rot: shortenRecord },
  { what: "a small object that is gone", settings: DISK, sizeBytes: 3_000, problem: "missing", rot: removeRecord },
  { what: "a large object, a bit of it flipped", settings: DISK, sizeBytes: LARGE_BYTES, problem: "hash", rot: flipBit, everyWay: true },
  { what: "a large object, its last bit flipped", settings: DISK, sizeBytes: LARGE_BYTES, problem: "hash", rot: flipLastBit },
  { what: "a large object that is cut off", settings: DISK, sizeBytes: LARGE_BYTES, problem: "size", rot: cutOff, everyWay: true },
  { what: "a large object, its file gone", settings: DISK, sizeBytes: LARGE_BYTES, problem: "missing", rot: removeFile },
  { what: "a small object in S3 of other bytes", settings: S3, sizeBytes: 3_000, problem: "hash", rot: overwriteInBucket },
  { what: "a large object in S3 of other bytes", settings: S3, sizeBytes: LARGE_BYTES, problem: "hash", rot: overwriteInBucket, everyWay: true },
  { what: "a large object in S3 that is longer", settings: S3, sizeBytes: LARGE_BYTES, problem: "size", rot: lengthenInBucket },
  { what: "a small object in S3 that is cut off", settings: S3, sizeBytes: 3_000, problem: "size", rot: cutOffInBucket },
  { what: "a large object in S3 that is cut off", settings: S3, sizeBytes: LARGE_BYTES, problem: "size", rot: cutOffInBucket, everyWay: true },
  { what: "a large object in S3 that is gone", settings: S3, sizeBytes: LARGE_BYTES, problem: "missing", rot: removeFromBucket },
];

/** Bytes handed in by two senders, settled, so that two files have one object. */
export async function storeTwice(world: World, sizeBytes: number) {
  const bytes = randomBytes(sizeBytes);
  const answers = [await world.put("a.bin", bytes), await world.put("b.bin", bytes)];
  const receipts = await Promise.all(answers.map((answer) => answer.json()));
  await world.settleAll();
  return { bytes, key: objectKey(receipts[0].sha256), ids: receipts.map(({ file_id }) => file_id as string) };
}

/** What a client gets: the status, the body as far as it came, and whether it came to its end. */
export async function download(world: World, id: string, headers: Record<string, string> = {}, method = "GET") {
  const response = await fetch(`${world.url}/api/files/${id}`, { headers, method });
  const chunks: Uint8Array[] = [];
  let complete = true;
  try {
    for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) chunks.push(chunk);
  } catch {
    complete = false;
  }
  return { status: response.status, body: Buffer.concat(chunks), complete };
}

export function scrubOf(world: World, { bytesPerSecond = 1e9, stopping = new AbortController().signal, clock = { now: () => new Date() } } = {}) {
  const { db, storage, damage, log } = world.context;
  return createScrub({ db, verifier: createVerifier({ store: storage }), damage, bytesPerSecond, stopping, clock, log });
}

/** The ledger's rows of these files, in short, and sorted. */
export async function events(world: World, ids: string[]): Promise<string[]> {
  const rows = await world.sql<{ event: string; file_id: string; reason: string | null }>(
    "select event, file_id, reason from file_events where file_id = any($1::uuid[])", [ids]);
  return rows.map(({ event, file_id, reason }) => `${ids.indexOf(file_id)} ${event}${reason ? ` ${reason.split(":")[0]}` : ""}`).sort();
}

async function overwriteRecord({ context: { storage } }: World, key: string) {
  const bytes = Buffer.from((await storage.readWhole(key))!);
  bytes[1_000]! ^= 4;
  await storage.put(key, bytes);
}

async function shortenRecord({ context: { storage } }: World, key: string) {
  await storage.put(key, (await storage.readWhole(key))!.slice(0, -1));
}

async function removeRecord({ context: { storage } }: World, key: string) {
  await storage.remove([key]);
}

/** The world's only large object. */
async function fileOf(world: World): Promise<string> {
  const folder = join(world.config.STORAGE_DIR, "files");
  const files = (await readdir(folder, { recursive: true })).filter((name) => name.includes("/"));
  if (files.length !== 1) throw new Error(`${files.length} large objects`);
  return join(folder, files[0]!);
}

async function flipAt(world: World, position: number): Promise<void> {
  const file = await open(await fileOf(world), "r+");
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, position);
  byte[0]! ^= 1;
  await file.write(byte, 0, 1, position);
  await file.close();
}

function flipBit(world: World) {
  return flipAt(world, 700_000);
}

function flipLastBit(world: World) {
  return flipAt(world, LARGE_BYTES - 1);
}

async function cutOff(world: World) {
  await truncate(await fileOf(world), LARGE_BYTES - 10);
}

async function removeFile(world: World) {
  await rm(await fileOf(world));
}

async function overwriteInBucket(world: World, key: string) {
  const { sizeBytes } = (await world.context.storage.head(key))!;
  await world.bucket!.put(key, randomBytes(sizeBytes));
}

async function lengthenInBucket(world: World, key: string) {
  await world.bucket!.put(key, Buffer.concat([(await world.context.storage.readWhole(key))!, Buffer.from("more")]));
}

async function cutOffInBucket(world: World, key: string) {
  await world.bucket!.put(key, (await world.context.storage.readWhole(key))!.subarray(0, -10));
}

async function removeFromBucket(world: World, Key: string) {
  await world.bucket!.client.send(new DeleteObjectCommand({ Bucket: world.bucket!.name, Key }));
}
