/** What the generator is asked to do, and what it answers. Both travel between two processes as JSON. */

export interface RequestShape {
  method: "GET" | "POST" | "PUT";
  path: string;
  headers: Record<string, string>;
  /** `multipart`: the file is the field `file` of a form. `raw`: it is the body. */
  body: "none" | "raw" | "multipart";
  /** Of the file, not of the form around it. */
  sizeBytes: number;
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
