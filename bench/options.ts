import { parseArgs } from "node:util";

export const PROGRAMS = ["uploads", "worker", "latency", "counts", "events"] as const;
export type Program = (typeof PROGRAMS)[number];
/** Of the program `events`. */
export const EVENT_PARTS = ["door", "batches", "stats"] as const;
export type EventPart = (typeof EVENT_PARTS)[number];

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

export interface Options {
  only: Program[];
  /** Of the uploaded files. */
  sizesBytes: number[];
  clients: number[];
  /** Turns that each competitor gets; the medians are taken over them. */
  rounds: number;
  /** Of one measured stretch. */
  seconds: number;
  /** Names of upload rungs; empty: all of them. */
  rungs: string[];
  /** Uploads the worker is given to settle. */
  uploads: number;
  /** In the ledger while /api/counts is measured. */
  rows: number;
  eventParts: EventPart[];
  /** In the database while /stats is measured. */
  eventRows: number;
  /** Where everything that is measured is written. Choose the disk by it. */
  dir: string;
  quick: boolean;
  profile: boolean;
}

export const USAGE = `npm run bench -- [options]

  --only uploads,worker,latency,counts,events
                                         what to measure (default: all)
  --sizes 1k,100k,10m,1g                 sizes of the uploaded files (1g is sent by one client only)
  --clients 1,16,64                      clients at once
  --rungs ours-put,hash-file,...         upload servers to compare (default: all; see bench/README.md)
  --rounds 5                             turns for each; medians are taken over them
  --seconds 2                            length of a measured stretch
  --uploads 20000                        uploads for the worker to settle
  --rows 1000000                         ledger rows while /api/counts is measured (the goal says 10000000)
  --event-parts door,batches,stats       of what is measured about events (default: all)
  --event-rows 10000000                  events while /stats is measured (the goal's number)
  --dir .data/bench                      folder, and with it the disk, that is written to
  --profile                              where do our processes spend their time; rates are lower
  --quick                                one short round of everything but 1g: does it work, not how fast is it
`;

/** @throws Error in words for whoever typed it */
export function parseOptions(args: readonly string[]): Options | "help" {
  const { values } = parseArgs({
    args: [...args],
    options: {
      only: { type: "string" },
      sizes: { type: "string" },
      clients: { type: "string" },
      rungs: { type: "string" },
      rounds: { type: "string" },
      seconds: { type: "string" },
      uploads: { type: "string" },
      rows: { type: "string" },
      "event-parts": { type: "string" },
      "event-rows": { type: "string" },
      dir: { type: "string" },
      quick: { type: "boolean" },
      profile: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) return "help";
  const quick = values.quick === true;
  return {
    only: chosen("only", values.only, PROGRAMS),
    sizesBytes: split(values.sizes ?? (quick ? "1k,100k,10m" : "1k,100k,10m,1g")).map(parseSize),
    clients: split(values.clients ?? (quick ? "1,16" : "1,16,64")).map((text) => parsePositive("clients", text)),
    rungs: split(values.rungs),
    rounds: parsePositive("rounds", values.rounds ?? (quick ? "1" : "5")),
    seconds: parsePositive("seconds", values.seconds ?? (quick ? "0.5" : "2"), false),
    uploads: parsePositive("uploads", values.uploads ?? (quick ? "2000" : "20000")),
    rows: parsePositive("rows", values.rows ?? (quick ? "100000" : "1000000")),
    eventParts: chosen("event-parts", values["event-parts"], EVENT_PARTS),
    eventRows: parsePositive("event-rows", values["event-rows"] ?? (quick ? "100000" : "10000000")),
    dir: values.dir ?? ".data/bench",
    quick,
    profile: values.profile === true,
  };
}

/** 1k, 100k, 10m, 1g, or plain bytes. Binary multiples. */
export function parseSize(text: string): number {
  const [, digits, unit] = /^(\d+)([kmg]?)$/i.exec(text) ?? [];
  const factor = { "": 1, k: KIB, m: MIB, g: GIB }[(unit ?? "").toLowerCase()];
  const sizeBytes = Number(digits) * (factor ?? Number.NaN);
  if (!(sizeBytes >= 1)) throw new Error(`--sizes: ${text} is not a size like 1k, 100k, 10m or 1g`);
  return sizeBytes;
}

export function formatSize(sizeBytes: number): string {
  if (sizeBytes % GIB === 0) return `${sizeBytes / GIB} GiB`;
  if (sizeBytes % MIB === 0) return `${sizeBytes / MIB} MiB`;
  if (sizeBytes % KIB === 0) return `${sizeBytes / KIB} KiB`;
  return `${sizeBytes} B`;
}

function split(text: string | undefined): string[] {
  return (text ?? "").split(",").map((item) => item.trim()).filter(Boolean);
}

/** All of them where nothing is said. */
function chosen<Name extends string>(option: string, text: string | undefined, names: readonly Name[]): Name[] {
  if (text === undefined) return [...names];
  return split(text).map((item) => {
    const name = names.find((one) => one === item);
    if (name === undefined) throw new Error(`--${option}: ${item} is none of ${names.join(", ")}`);
    return name;
  });
}

function parsePositive(name: string, text: string, whole = true): number {
  const value = Number(text);
  if (!(value > 0) || !Number.isFinite(value) || (whole && !Number.isInteger(value))) {
    throw new Error(`--${name}: ${text} is not a ${whole ? "whole " : ""}number above zero`);
  }
  return value;
}
