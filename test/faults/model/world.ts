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
/** Those that matter once somebody decides about dead letters, or bytes go bad. */
export const TROUBLE_GUARDS = {
  lettersLocked: true, // who decides about a dead letter holds it while it looks into the inbox
  retriedWithBytes: true, // a letter without bytes is not taken off the letters
  healedBySame: true, // other bytes take no damaged ones' place
  readBeforeBelieved: true, // an object that is there already is read
  discardedStaysGone: true, // what is discarded is neither settled nor given up by a worker that has it in hand
};
/** What the stream does is only for speed: the model holds without it, too. */
export const FAST_PATH = { acknowledgedLast: true, appended: true };

export type Protocol = typeof GUARDS & typeof TROUBLE_GUARDS & typeof FAST_PATH;
export const PROTOCOL: Protocol = { ...GUARDS, ...TROUBLE_GUARDS, ...FAST_PATH };

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
  /** Which acceptance under this id: as the event time in the code. */
  acceptance: number;
}

export interface DeadLetter {
  code: string;
  /** What the upload was, as the worker knew it. */
  described: Pick<Manifest, "sha" | "acceptance"> | undefined;
}

/** Of the database. Whoever is killed, or cut off, holds nothing any more. */
interface Transaction {
  open: boolean;
}

/** A step as the code names it, or a place between two round trips that has no name there. */
export type Step = FailpointName | undefined;
export type Steps<T> = Generator<Step, T, void>;

export const TICKS = { claimIdle: 4, retry: 1, reconcileEvery: 3, reconcileAge: 6, orphanAge: 60 };

export interface Entry {
  id: number;
  key: string;
  acceptance: number | undefined;
}

interface RedisState {
  stream: Entry[];
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
  let lastAcceptance = 0;

  const world = {
    protocol,
    now: 0,
    /** Finer than ticks: each look at an object is one. */
    moment: 0,
    down: new Set<Dependency>(),
    /** The next call is carried out, and its answer lost. */
    losing: new Set<Dependency>(),
    passed: new Set<FailpointName>(),
    inbox: { files: new Map<string, number>(), blobs: new Map<string, { content: string | undefined; at: number }>(), manifests: new Map<string, Manifest>() },
    storage: new Map<Sha, string>(),
    files: new Map<string, Sha>(),
    /** Which acceptance of it each file is. */
    settled: new Map<string, number>(),
    ledger: [] as string[],
    attempts: new Map<string, number>(),
    dead: new Map<string, DeadLetter>(),
    locked: new Map<string, Transaction>(),
    /** Acceptances that somebody threw away, and those of which somebody began to. */
    discarded: new Set<number>(),
    goingAway: new Set<number>(),
    /** Ids whose bytes in the inbox went bad as they waited. */
    rotten: new Set<string>(),
    /** Stored objects that are known to be damaged; those that are, and since which moment. */
    damaged: new Set<Sha>(),
    rottenObjects: new Map<Sha, number>(),
    /** Files whose good bytes were thrown away for an object that had been damaged before. */
    swallowed: new Set<string>(),
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

    /** `work`, between BEGIN with the letter's lock and COMMIT: what it returns is carried out with the COMMIT. @returns undefined: there is no such letter */
    *holding<T>(id: string, work: (letter: DeadLetter) => Steps<() => T>): Steps<T | undefined> {
      const tx: Transaction = { open: true };
      try {
        while (!(yield* world.call("postgres", () => take(id, tx))));
        const letter = world.dead.get(id);
        if (!letter) return undefined;
        const commit = yield* work(letter);
        return yield* world.call("postgres", () => {
          if (!tx.open) throw new Unavailable("postgres", { cause: "the connection was cut" });
          return commit();
        });
      } finally {
        if (world.locked.get(id) === tx) world.locked.delete(id);
      }
    },
    /** A statement that touches these ids' letters: it waits for who holds one. */
    *changing<T>(ids: string[], work: () => T): Steps<T> {
      for (;;) {
        const done = yield* world.call("postgres", () => (ids.some((id) => world.locked.has(id)) ? undefined : { result: work() }));
        if (done) return done.result;
      }
    },
    cutTransactions() {
      for (const tx of world.locked.values()) tx.open = false;
      world.locked.clear();
    },
    newAcceptance: () => ++lastAcceptance,

    append(key: string, acceptance: number | undefined): number {
      redis.stream.push({ id: ++lastEntry, key, acceptance });
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

  function take(id: string, tx: Transaction): boolean {
    if (!protocol.lettersLocked) return true;
    if (world.locked.has(id)) return false;
    world.locked.set(id, tx);
    return true;
  }

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
