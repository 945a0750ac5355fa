/** What was started and has to be stopped, in which order. */

/** The site first: it finishes its uploads with the servers still there. */
const PHASES = ["site", "servers", "followers"] as const;
type Phase = (typeof PHASES)[number];

interface Stoppable {
  stop(): Promise<void>;
  kill(): void;
}

export interface StopOrder {
  /** What is added once stopping has begun is stopped right away. */
  add(phase: Phase, thing: Stoppable): void;
  /** Stops everything, once; later calls wait for the first. */
  stopAll(): Promise<void>;
  killAll(): void;
  isStopping(): boolean;
  /** @throws Error once stopping has begun, so that a long set-up does not start more */
  throwIfStopping(): void;
}

export function createStopOrder(): StopOrder {
  const things = new Map<Phase, Stoppable[]>(PHASES.map((phase) => [phase, []]));
  const late: Promise<void>[] = [];
  let stopping: Promise<void> | undefined;

  async function stopPhases(): Promise<void> {
    for (const phase of PHASES) await Promise.all((things.get(phase) ?? []).map((thing) => thing.stop()));
  }
  return {
    add(phase, thing) {
      things.get(phase)?.push(thing);
      if (stopping) late.push(thing.stop());
    },
    async stopAll() {
      stopping ??= stopPhases();
      await stopping;
      await Promise.all(late);
    },
    killAll() {
      for (const phase of PHASES) for (const thing of things.get(phase) ?? []) thing.kill();
    },
    isStopping: () => stopping !== undefined,
    throwIfStopping() {
      if (stopping) throw new Error("Stopped before everything was started.");
    },
  };
}
