import { newId } from "../core/ids.ts";
import { listsKeys, type ObjectStore } from "../objects/object-store.ts";
import { readUnit, type Batch } from "./messages.ts";

/** Keys say how much is there, so that nobody has to read it to know: prefix, id, bytes. */
const KEY = /^([0-9a-f-]{36})\.(\d{1,15})$/;
const PAGE = 1_000;
/** What a unit takes beside its bytes, generously: with as many small ones as fit otherwise, counting them would take seconds. */
export const UNIT_BYTES = 1_024;

/** Batches that were accepted together, with Redis away. */
export interface Spooled {
  key: string;
  sizeBytes: number;
}

export type Spool = ReturnType<typeof createSpool>;

/** Where accepted events wait while the stream does not take them: in the inbox's store, from which the worker records them itself. */
export function createSpool({ store, prefix }: { store: ObjectStore; prefix: string }) {
  /** Durable when it resolves. @param unit  what writeUnit made; @throws Unavailable */
  async function put(unit: Uint8Array): Promise<void> {
    await store.put(`${prefix}${newId()}.${unit.length}`, unit);
  }

  /** The ones that wait longest. @throws Unavailable */
  async function list(limit: number, after?: string): Promise<Spooled[]> {
    const place = { limit, ...(after && { after }) };
    const page = listsKeys(store) ? (await store.listKeys(prefix, place)).map((key) => ({ key })) : await store.list(prefix, place);
    return page.map(({ key }) => ({ key, sizeBytes: Number(KEY.exec(key.slice(prefix.length))?.[2] ?? 0) }));
  }

  /** How much waits, and what it takes. @throws Unavailable */
  async function weigh(): Promise<{ units: number; sizeBytes: number }> {
    const all = { units: 0, sizeBytes: 0 };
    for (let after: string | undefined; ;) {
      const page = await list(PAGE, after);
      all.units += page.length;
      all.sizeBytes += page.reduce((sum, { sizeBytes }) => sum + sizeBytes + UNIT_BYTES, 0);
      if (page.length < PAGE) return all;
      after = page.at(-1)!.key;
    }
  }

  /** "unreadable" with what is there in its place. Undefined: it is gone, somebody recorded it. @throws Unavailable */
  async function read({ key }: Spooled): Promise<Batch[] | { unreadable: string } | undefined> {
    const bytes = await store.readWhole(key);
    if (!bytes) return undefined;
    const text = Buffer.from(bytes).toString();
    return readUnit(text) ?? { unreadable: text };
  }

  async function remove(spooled: readonly Spooled[]): Promise<void> {
    await store.remove(spooled.map(({ key }) => key));
  }

  return { put, list, weigh, read, remove };
}
