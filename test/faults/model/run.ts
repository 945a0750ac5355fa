import fc from "fast-check";
import type { Dependency } from "../../../src/core/errors.ts";
import { complaints, type Notebook } from "./oracle.ts";
import { decide, type Decision } from "./person.ts";
import { reconciler, type ReconcilerState } from "./reconciler.ts";
import { handle, type Answer, type Upload } from "./web.ts";
import { createWorld, TICKS, type Manifest, type Protocol, type Sha, type Step, type World } from "./world.ts";
import { worker } from "./worker.ts";

/** One thing that happens. `who` is taken modulo the number of those it may happen to. */
export type Move =
  | { do: "run"; who: number; steps: number } // somebody goes on
  | { do: "arrive" } // the next client sends its upload
  | { do: "kill"; who: number }
  | { do: "stall" | "wake"; who: number } // SIGSTOP and SIGCONT
  | { do: "tick"; ticks: number }
  | { do: "down" | "up" | "lose"; what: Dependency } // lose: the next call is carried out, its answer lost
  | { do: "flush" | "save" | "lose-tail" }
  | { do: Decision; who: number } // somebody decides about a dead letter
  | { do: "rot" | "rot-object"; who: number }; // the bytes of an upload that waits go bad, or those of one that is stored

export interface Client {
  /** Clients of one key may send different bytes. Null: no Idempotency-Key. */
  key: number | null;
  sha: Sha;
  large: boolean;
  /** How often it sends all of it again although it has its 202. */
  resends: number;
}

export interface Plan {
  clients: Client[];
  workers: number;
  moves: Move[];
}

const dependency = fc.constantFrom<Dependency>("redis", "postgres", "inbox", "storage");
const who = fc.nat({ max: 11 });

const usual = [
  { weight: 40, arbitrary: fc.record({ do: fc.constant("run" as const), who, steps: fc.integer({ min: 1, max: 12 }) }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant("arrive" as const) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("kill" as const), who }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constantFrom("stall" as const, "wake" as const), who }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant("tick" as const), ticks: fc.oneof({ weight: 8, arbitrary: fc.integer({ min: 1, max: 8 }) }, { weight: 1, arbitrary: fc.constant(TICKS.orphanAge + 10) }) }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constantFrom("down" as const, "up" as const, "up" as const, "lose" as const), what: dependency }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom("flush" as const, "save" as const, "lose-tail" as const) }) },
];

const troubles = [
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom("retry" as const, "discard" as const), who }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("rot" as const, "rot-object" as const), who }) },
];

const client: fc.Arbitrary<Client> = fc.record({
  key: fc.constantFrom(0, 0, 1, null),
  sha: fc.oneof({ weight: 4, arbitrary: fc.constant<Sha>("a") }, { weight: 3, arbitrary: fc.constant<Sha>("b") }, { weight: 1, arbitrary: fc.constantFrom<Sha>("refused", "damaged") }),
  large: fc.boolean(),
  resends: fc.nat({ max: 1 }),
});

const plansOf = (moves: fc.WeightedArbitrary<Move>[]): fc.Arbitrary<Plan> => fc.record({
  clients: fc.array(client, { minLength: 1, maxLength: 5 }),
  workers: fc.integer({ min: 1, max: 3 }),
  moves: fc.array(fc.oneof(...moves), { minLength: 10, maxLength: 120, size: "max" }),
});

/** Nothing rots, and nobody decides about dead letters: rare races are met sooner. */
export const plansWithoutTroubles = plansOf(usual);
export const plans = plansOf([...usual, ...troubles]);

interface Process {
  steps: Generator<Step, unknown, void>;
  stalled: boolean;
  ready(): boolean;
  /** Busy with something that has to come to an end. */
  busy(): boolean;
  end(result: unknown): void;
  kill(): void;
}

const MOST_ROUNDS = 3_000;

/** Carries the plan out, heals everything, lets the system run until it is quiet. @returns what the oracle has to say */
export function carryOut({ clients, workers, moves }: Plan, protocol: Protocol): { world: World; complaints: string[] } {
  const world = createWorld(protocol);
  const processes = new Set<Process>();
  const book: Notebook = { promised: [], refused: [] };
  const waiting = [...clients];

  function start(steps: Process["steps"], rest: Omit<Process, "steps" | "stalled" | "end"> & Partial<Pick<Process, "end">>) {
    processes.add({ steps, stalled: false, end: () => {}, ...rest });
  }

  function startWorker() {
    const hand = { entries: 0 };
    start(worker(world, world.newName("worker"), hand), { ready: () => true, busy: () => hand.entries > 0, kill: startWorker });
  }

  function startReconciler() {
    const name = world.newName("reconciler");
    const state: ReconcilerState = { nextAt: 0, sweptAt: world.now };
    start(reconciler(world, name, state), {
      ready: () => world.now >= state.nextAt || world.reconcileLock === name,
      busy: () => world.reconcileLock === name,
      kill() {
        if (world.reconcileLock === name) world.reconcileLock = undefined; // it goes with its connection
        startReconciler();
      },
    });
  }

  /** A request in a web process of its own: what a killed web has in hand is lost, whoever sent it tries again. */
  function send(from: Client, resends: number) {
    const upload: Upload = { derivedId: from.key === null ? undefined : `key-${from.key}`, sha: from.sha, large: from.large };
    const blobKey = world.newName("blob-");
    const again = (left: number) => send(from, left);
    start(handle(world, upload, blobKey), {
      ready: () => true,
      busy: () => true,
      kill: () => again(resends),
      end(result) {
        const answer = result as Answer;
        if (answer.status === 503) return again(resends);
        if (answer.status === 422) return void book.refused.push({ id: answer.id, sha: from.sha, blobKey });
        book.promised.push({ id: answer.id, sha: from.sha, receipt: answer.sha, acceptance: answer.acceptance });
        if (resends > 0) again(resends - 1);
      },
    });
  }

  function ask(decision: Decision, id: string) {
    const again = () => ask(decision, id);
    start(decide(world, decision, id), { ready: () => true, busy: () => true, kill: again, end: (answered) => void (answered || again()) });
  }

  /** Of a small upload in its manifest, of a large one in its blob. */
  function rot({ id, blobKey }: Manifest) {
    world.rotten.add(id);
    const manifest = world.inbox.manifests.get(id)!;
    const blob = blobKey === null ? undefined : world.inbox.blobs.get(blobKey);
    if (blob) blob.content = "something else";
    else world.inbox.manifests.set(id, { ...manifest, content: "something else" });
  }

  function rotObject(sha: Sha) {
    world.storage.set(sha, "something else");
    world.rottenObjects.set(sha, ++world.moment);
  }

  function step(process: Process) {
    const { done, value } = process.steps.next();
    if (!done) return void (typeof value === "string" && world.passed.add(value));
    processes.delete(process);
    process.end(value);
  }

  function pick(index: number, from: (process: Process) => boolean): Process | undefined {
    const those = [...processes].filter(from);
    return those[index % those.length];
  }

  function happen(next: Move) {
    switch (next.do) {
      case "run": {
        const process = pick(next.who, (one) => !one.stalled && one.ready());
        for (let left = next.steps; process && left > 0 && processes.has(process) && process.ready(); left--) step(process);
        return;
      }
      case "arrive": {
        const from = waiting.shift();
        return from && send(from, from.resends);
      }
      case "kill": {
        const process = pick(next.who, () => true);
        if (!process) return;
        processes.delete(process);
        process.steps.return(undefined); // what it holds of the database goes with its connection
        return process.kill();
      }
      case "stall": case "wake": {
        const process = pick(next.who, (one) => one.stalled === (next.do === "wake"));
        if (process) process.stalled = next.do === "stall";
        return;
      }
      case "tick": return void (world.now += next.ticks);
      case "down":
        if (next.what === "postgres") {
          world.reconcileLock = undefined;
          world.cutTransactions();
        }
        return void world.down.add(next.what);
      case "up": return void world.down.delete(next.what);
      case "lose": return void world.losing.add(next.what);
      case "retry": case "discard": {
        const letters = [...world.dead.keys()];
        return void (letters.length > 0 && ask(next.do, letters[next.who % letters.length]!));
      }
      case "rot": {
        const waits = [...world.inbox.manifests.values()];
        return void (waits.length > 0 && rot(waits[next.who % waits.length]!));
      }
      case "rot-object": {
        const objects = [...world.storage.keys()];
        return void (objects.length > 0 && rotObject(objects[next.who % objects.length]!));
      }
      case "flush": return world.flush();
      case "save": return world.save();
      case "lose-tail": return world.loseTail();
    }
  }

  /** Everybody goes on in turn, and time with them. @returns false: it never came to an end */
  function runUntil(done: () => boolean): boolean {
    for (let round = 0; round < MOST_ROUNDS; round++) {
      if (done()) return true;
      const now = Array.from(processes); // who begins in this round comes in the next
      for (const process of now) if (processes.has(process) && process.ready()) step(process);
      if (round % 8 === 0) world.now++;
    }
    return false;
  }

  const idle = () => ![...processes].some((process) => process.busy());
  const settled = () => idle() && world.redis().stream.length === 0 && [...world.inbox.manifests.keys()].every((id) => world.dead.has(id));

  for (let index = 0; index < workers; index++) startWorker();
  startReconciler();
  startReconciler();
  moves.forEach(happen);

  world.down.clear();
  world.losing.clear();
  for (const process of processes) process.stalled = false;
  for (const from of waiting.splice(0)) send(from, from.resends);
  if (!runUntil(settled)) return { world, complaints: ["it never became quiet"] };
  world.now += TICKS.orphanAge * 2;
  const sweptBy = world.now + TICKS.reconcileEvery * 4;
  if (!runUntil(() => world.now >= sweptBy && settled())) return { world, complaints: ["it never became quiet again"] };
  return { world, complaints: complaints(world, book) };
}
