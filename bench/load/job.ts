/** What the generator is asked to do, and what it answers. Both travel between two processes as JSON. */

export interface RequestShape {
  method: "GET" | "POST" | "PUT";
  path: string;
  headers: Record<string, string>;
  /** With a query of its own each: they are asked in turn, and each client begins at another one. */
  paths?: readonly string[];
  /** `multipart`: the file is the field `file` of a form. `raw`: it is the body. `events`: see there. */
  body: "none" | "raw" | "multipart" | "events";
  /** Of the file, not of the form around it. */
  sizeBytes: number;
  events?: EventsShape;
}

export interface EventsShape {
  /** Of one request. Undefined: a single one, that stands in no list. */
  batch?: number;
  /** Each has an event_id that no other one has. */
  withIds: boolean;
}

export interface Expectation {
  status: number;
  /** Must stand in the answer, head or body; undefined: only the status counts. */
  text?: string;
}

/** How long a stretch goes on: for a time, or for a number of requests. */
export type Stretch = { forMs: number } | { requests: number };

export interface Job {
  port: number;
  clients: number;
  request: RequestShape;
  expect: Expectation;
  /** Sent the same way but not counted. Its size may be smaller (nobody warms up with 1 GiB). */
  warmUp: Stretch;
  warmUpBytes?: number;
  measure: Stretch;
  /**
   * Requests a second, due at fixed times whatever became of those before; a latency then begins when its request was due,
   * and all that were due in the stretch count. Undefined: a closed loop.
   */
  pacePerSecond?: number;
}

export interface JobResult {
  /** Answered rightly within the measured stretch. */
  requests: number;
  elapsedMs: number;
  perSecond: number;
  p50Ms: number;
  p90Ms: number;
  p99Ms: number;
  maxMs: number;
  /** All that were answered rightly: with the warm-up, and with those that ended after the stretch. */
  answered: number;
  failures: number;
  /** The first few, in words. */
  reasons: string[];
  /** Of one core, in the measured stretch. Near 1 the generator itself is what was measured. */
  generatorCores: number;
}

export type FromGenerator =
  | { type: "measuring" }
  | { type: "measured" }
  | { type: "done"; result: JobResult }
  | { type: "broke"; message: string };
