import { Failure, Unavailable, type Dependency } from "../../../src/core/errors.ts";
import type { FailpointName } from "../../../src/core/failpoints.ts";

/**
 * The world of the model: what is durable (inbox, storage, tables), what may be lost at any time (Redis), a clock that
 * counts ticks, and who is running. Whatever the code does in one round trip is one step here, and between two of them
 * anything may happen.
 */

/** The guards of the protocol. The model holds with all of them on; the tests switch them off one by one. */
export const GUARDS = {
  reconciler: true,
  removedAfterCommit: true, // an upload leaves the inbox after its row is committed
  manifestOnce: true, // the manifest is created only if there is none
  primaryKey: true,
  promisedWhenDurable: true, // 202 after the manifest, not before
  sameKeySameBytes: true, // other bytes under a key that is taken: 422
  verified: true, // the bytes are hashed on their way to storage
  sweepsOldOnly: true,
  reconcilerAsksLedger: true,
  impostorsKept: true, // other bytes under a settled id are given up visibly, not removed
  removedUnchanged: true, // only the very manifest that was settled is taken out
  infrastructureSpendsNothing: true,
  attemptsOfOpenOnly: true, // what is a file already has no failures
  attemptsLimited: true,
  deadLettersKeepBytes: true,
  blobBeforeManifest: true,
  oldBytesNotPromised: true, // a blob that the sweeper may take is not promised any more
};
/** What the stream does is only for speed: the model holds without it, too. */
export const FAST_PATH = { acknowledgedLast: true, appended: true };

export type Protocol = typeof GUARDS & typeof FAST_PATH;
export const PROTOCOL: Protocol = { ...GUARDS, ...FAST_PATH };

/** Contents are told apart by their hash. Two kinds never settle: the database refuses the one, the inbox damages the other. */
export type Sha = "a" | "b" | "refused" | "damaged";
export const isPoison = (sha: Sha) => sha === "refused" || sha === "damaged";

export interface Manifest {
  id: string;
  sha: Sha;
  blobKey: string | null;
  /** Of a small upload, as it reads now. */
  content: string;
  at: number;
}

/** A step as the code names it, or a place between two round trips that has no name there. */
export type Step = FailpointName | undefined;
export type Steps<T> = Generator<Step, T, void>;

export const TICKS = { claimIdle: 4, retry: 1, reconcileEvery: 3, reconcileAge: 6, orphanAge: 60 };

interface RedisState {
  stream: { id: number; key: string }[];
  group: { delivered: number; pending: Map<number, { owner: string; since: number }> } | undefined;
  streamIds: Map<string, number>;
}

export const NO_GROUP = "NOGROUP";

export function createWorld(protocol: Protocol) {
  const emptyRedis = (): RedisState => ({ stream: [], group: undefined, streamIds: new Map() });
  let redis = emptyRedis();
  let saved = emptyRedis();
  let lastEntry = 0; // ids are times: they grow, whatever is lost
  let lastName = 0;

  const world = {
    protocol,
    now: 0,
    down: new Set<Dependency>(),
    /** The next call is carried out, and its answer lost. */
    losing: new Set<Dependency>(),
    passed: new Set<FailpointName>(),
    inbox: { files: new Map<string, number>(), blobs: new Map<string, { content: string | undefined; at: number }>(), manifests: new Map<string, Manifest>() },
    storage: new Map<Sha, string>(),
    files: new Map<string, Sha>(),
    ledger: [] as string[],
    attempts: new Map<string, number>(),
    /** `by`: the delivery in which it was given up. */
    dead: new Map<string, { code: string; by: number }>(),
    reconcileLock: undefined as string | undefined,
    /** Every manifest that was ever created, "id sha", with those who were promised it. */
    committed: new Set<string>(),
    newName: (kind: string) => `${kind}${++lastName}`,
    redis: () => redis,

    /** One round trip. @throws Unavailable, where the dependency is down or its answer is lost */
    *call<T>(dependency: Dependency, work: () => T): Steps<T> {
      yield;
      if (world.down.has(dependency)) throw new Unavailable(dependency);
      const result = work();
      if (world.losing.delete(dependency)) throw new Unavailable(dependency, { cause: "answer lost" });
      return result;
    },

    append(key: string): number {
      redis.stream.push({ id: ++lastEntry, key });
      return lastEntry;
    },
    group() {
      if (!redis.group) throw new Error(NO_GROUP);
      return redis.group;
    },
    createGroup() {
      redis.group ??= { delivered: 0, pending: new Map() };
    },
    flush() {
      redis = emptyRedis();
    },
    save() {
      saved = copyOf(redis);
    },
    /** Redis comes back with what it had when it last wrote to its disk. */
    loseTail() {
      redis = copyOf(saved);
    },
  };
  return world;
}

export type World = ReturnType<typeof createWorld>;

export const unlessUnavailable = <T>(error: unknown, otherwise: T): T => {
  if (error instanceof Unavailable) return otherwise;
  throw error;
};

export { Failure, Unavailable };

function copyOf({ stream, group, streamIds }: RedisState): RedisState {
  return {
    stream: [...stream],
    group: group && { delivered: group.delivered, pending: new Map([...group.pending].map(([id, entry]) => [id, { ...entry }])) },
    streamIds: new Map(streamIds),
  };
}
