import { isAbsolute, relative, sep } from "node:path";
import { z } from "zod";
import { parseFailpoints } from "./failpoints.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

const flag = z.enum(["true", "false", "1", "0"]).transform((text) => text === "true" || text === "1");
const whole = (least: number, most = Number.MAX_SAFE_INTEGER) => z.coerce.number().int().min(least).max(most);
const url = (protocols: RegExp) => z.url({ protocol: protocols });

/**
 * Every setting, its default and its limits. An empty value counts as not set.
 * .env.example lists the same names; a test keeps the two equal.
 */
const settings = z.object({
  NODE_ENV: z.enum(["development", "production", "test"]).default("development"),
  HOST: z.string().default("127.0.0.1"),
  PORT: whole(0, 65_535).default(8080),
  SECRET_KEY: z.string().default("dev"),
  ACCESS: z.enum(["open"]).default("open"),
  TRUST_PROXY: whole(0, 16).default(0),
  LOG_LEVEL: z.enum(["fatal", "error", "warn", "info", "debug", "trace", "silent"]).default("info"),

  REDIS_URL: url(/^rediss?$/).default("redis://localhost:6379"),
  REDIS_PREFIX: z.string().regex(/^[\w.:-]+$/).default("ConnectStorm:"),
  REDIS_TIMEOUT_MS: whole(50, 60_000).default(500),
  PG_URI: url(/^postgres(ql)?$/).default("postgres://localhost:5432/connectstorm"),
  PG_POOL_SIZE: whole(4, 1000).default(10),
  TIME_SERIES: z.enum(["auto", "timescale", "native"]).default("auto"),
  LEDGER_RETENTION_DAYS: whole(1, 36_500).optional(),

  INBOX: z.enum(["disk", "s3"]).default("disk"),
  INBOX_DIR: z.string().default(".data/inbox"),
  STORAGE_MODE: z.enum(["local", "s3"]).default("local"),
  STORAGE_DIR: z.string().default(".data/storage"),
  SMALL_OBJECT_BYTES: whole(0, 4 * MIB).default(256 * KIB),
  S3_BUCKET: z.string().optional(),
  S3_ENDPOINT: url(/^https?$/).optional(),
  S3_REGION: z.string().default("auto"),
  S3_ACCESS_KEY_ID: z.string().optional(),
  S3_SECRET_ACCESS_KEY: z.string().optional(),
  S3_FORCE_PATH_STYLE: flag.default(false),
  S3_TIMEOUT_SECONDS: whole(1, 3600).default(30),

  MAX_UPLOAD_BYTES: whole(1, 80 * GIB).default(5 * GIB),
  ALLOWED_TYPES: z.string().default("").transform(splitList),
  UPLOAD_IDLE_SECONDS: whole(1, 3600).default(30),
  UPLOAD_MIN_BYTES_PER_SECOND: whole(0, MIB).default(64),
  RESUMABLE_EXPIRY_SECONDS: whole(60, 31_536_000).default(86_400),
  MAX_CONCURRENT_UPLOADS: whole(1, 100_000).default(256),
  UPLOAD_MEMORY_BYTES: whole(MIB).default(128 * MIB),
  MAX_CONCURRENT_DOWNLOADS: whole(1, 100_000).default(64),
  DOWNLOAD_MIN_BYTES_PER_SECOND: whole(0, 64 * MIB).default(KIB),
  MAX_LIVE_STREAMS: whole(1, 100_000).default(2_000),
  MAX_BACKLOG: whole(1).default(1_000_000),
  MAX_BACKLOG_BYTES: whole(1).default(100 * GIB),
  MIN_FREE_BYTES: whole(0).optional(),
  ADDRESS_UPLOADS_PER_MINUTE: whole(0).default(0),
  ACCOUNT_UPLOADS_PER_MINUTE: whole(0).default(0),

  EVENT_ORIGINS: z.string().default("*").transform(readOrigins),
  ADDRESS_EVENTS_PER_MINUTE: whole(0).default(0),
  EVENT_MAX_AGE_DAYS: whole(1, 36_500).optional(),
  EVENT_RETENTION_DAYS: whole(1, 36_500).optional(),
  EVENT_ROLLUP_RETENTION_DAYS: whole(1, 36_500).optional(),
  MAX_EVENT_BACKLOG_BYTES: whole(MIB).default(256 * MIB),
  MAX_EVENT_SPOOL_BYTES: whole(0).default(256 * MIB),

  CONSUMER_BATCH_SIZE: whole(1, 5000).default(500),
  CLAIM_IDLE_SECONDS: whole(1, 3600).default(30),
  RETRY_SECONDS: whole(0, 3600).default(5),
  RECONCILE_SECONDS: whole(1, 3600).default(30),
  RECONCILE_AGE_SECONDS: whole(1, 86_400).default(60),
  ORPHAN_AGE_SECONDS: whole(1, 31_536_000).default(86_400),
  SCRUB_BYTES_PER_SECOND: whole(0).default(MIB),
  RUN_WORKER_IN_WEB: flag.default(false),
  SHUTDOWN_SECONDS: whole(1, 600).default(30),
  FAILPOINTS: z.string().default("").transform(readFailpoints),

  PRODUCER_USERS: whole(1, 100_000).default(5),
  PRODUCER_REPEATS: whole(1, 1_000_000).default(2),
  PRODUCER_HEADLESS: flag.default(true),
});

export type Config = z.infer<typeof settings>;

export const SETTING_NAMES = Object.keys(settings.shape) as readonly (keyof Config)[];

/** Names that older installations use; the name on the right wins where both are set. */
const LEGACY_NAMES: Record<string, keyof Config> = { FLASK_HOST: "HOST", FLASK_PORT: "PORT", DATABASE_URL: "PG_URI" };

const EXAMPLE_SECRETS = new Set(["dev", "change-me", "changeme", "secret"]);
const SHORTEST_SECRET = 32; // characters; 256 bits of hex is 64, of base64 43

/**
 * Reads every setting once.
 * @throws Error that names every bad variable at once, in words for whoever set them.
 */
export function parseConfig(env: Record<string, string | undefined>): Config {
  const parsed = settings.safeParse(readGiven(env));
  const faults = parsed.success ? contradictions(parsed.data) : describeIssues(parsed.error);
  if (!parsed.success || faults.length > 0) throw unusable(faults);
  return parsed.data;
}

const simulationSettings = settings.pick({ HOST: true, PORT: true, PRODUCER_USERS: true, PRODUCER_REPEATS: true, PRODUCER_HEADLESS: true });

export type SimulationConfig = z.infer<typeof simulationSettings>;

/** What `npm run simulate` needs: it may run where the site's other settings are wrong or missing. @throws Error as above */
export function parseSimulationConfig(env: Record<string, string | undefined>): SimulationConfig {
  const parsed = simulationSettings.safeParse(readGiven(env));
  if (!parsed.success) throw unusable(describeIssues(parsed.error));
  return parsed.data;
}

function readGiven(env: Record<string, string | undefined>): Record<string, string> {
  const given: Record<string, string> = {};
  for (const [legacy, name] of Object.entries(LEGACY_NAMES)) {
    if (env[legacy]) given[name] = env[legacy];
  }
  for (const name of SETTING_NAMES) {
    if (env[name]) given[name] = env[name];
  }
  return given;
}

function describeIssues(error: z.ZodError): string[] {
  return error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
}

function unusable(faults: readonly string[]): Error {
  return new Error(`These settings are not usable:\n  ${faults.join("\n  ")}`);
}

function contradictions(config: Config): string[] {
  const faults: string[] = [];
  if (config.NODE_ENV === "production" && (EXAMPLE_SECRETS.has(config.SECRET_KEY) || config.SECRET_KEY.length < SHORTEST_SECRET)) {
    faults.push(`SECRET_KEY: in production set a random text of at least ${SHORTEST_SECRET} characters (openssl rand -hex 32)`);
  }
  if (config.NODE_ENV === "production" && config.FAILPOINTS.length > 0) {
    faults.push("FAILPOINTS: makes the process fail on purpose, for tests; production does not take it");
  }
  if ((config.STORAGE_MODE === "s3" || config.INBOX === "s3") && !config.S3_BUCKET) {
    faults.push("S3_BUCKET: is needed by STORAGE_MODE=s3 and INBOX=s3");
  }
  if (config.INBOX === "disk" && config.STORAGE_MODE === "local" && (holds(config.INBOX_DIR, config.STORAGE_DIR) || holds(config.STORAGE_DIR, config.INBOX_DIR))) {
    faults.push("INBOX_DIR, STORAGE_DIR: each needs a folder of its own, and neither may lie in the other");
  }
  if (config.EVENT_ROLLUP_RETENTION_DAYS !== undefined && config.EVENT_ROLLUP_RETENTION_DAYS < (config.EVENT_RETENTION_DAYS ?? Number.POSITIVE_INFINITY)) {
    faults.push("EVENT_ROLLUP_RETENTION_DAYS: figures are kept at least as long as the events (EVENT_RETENTION_DAYS)");
  }
  if (config.EVENT_MAX_AGE_DAYS !== undefined && config.EVENT_MAX_AGE_DAYS > (config.EVENT_ROLLUP_RETENTION_DAYS ?? Number.POSITIVE_INFINITY)) {
    faults.push("EVENT_MAX_AGE_DAYS: no more than EVENT_ROLLUP_RETENTION_DAYS, or late events would be added to days whose other figures are gone");
  }
  if (Boolean(config.S3_ACCESS_KEY_ID) !== Boolean(config.S3_SECRET_ACCESS_KEY)) {
    faults.push("S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY: set both or neither");
  }
  return faults;
}

/** Is `inner` that folder, or in it? */
function holds(outer: string, inner: string): boolean {
  const way = relative(outer, inner);
  return !isAbsolute(way) && way.split(sep)[0] !== "..";
}

function readFailpoints(text: string, context: z.RefinementCtx) {
  try {
    return parseFailpoints(text);
  } catch (error) {
    context.addIssue({ code: "custom", message: (error as Error).message });
    return z.NEVER;
  }
}

/** Origins as browsers send them, "https://example.org"; "*" for all, "none" for none. */
function readOrigins(text: string, context: z.RefinementCtx): string[] {
  const origins = text.trim() === "none" ? [] : splitList(text);
  for (const origin of origins) {
    if (origin === "*" || (URL.canParse(origin) && new URL(origin).origin === origin)) continue;
    context.addIssue({ code: "custom", message: `'${origin}' is not an origin such as https://example.org, nor * or none` });
  }
  return origins;
}

function splitList(text: string): string[] {
  return text.split(",").map((item) => item.trim().toLowerCase()).filter(Boolean);
}
