import { randomBytes } from "node:crypto";
import { Agent, request } from "node:http";
import { setTimeout as pause } from "node:timers/promises";

/** An event as a client writes it. */
export interface WrittenEvent {
  site_id: string;
  event_type: string;
  path?: string;
  user_id?: string;
  timestamp?: string;
  event_id?: string;
}

/** What a client knows of an event: how often it was promised, and how often it may have come through. */
export interface SentEvent {
  event: WrittenEvent;
  acknowledged: number;
  sent: number;
}

export interface EventsCrowdSettings {
  urls: string[];
  clients?: number;
  /** Events of a request, to choose from. */
  sizes?: number[];
  /** Pause between two requests of a client, in milliseconds: 0 for as fast as it goes. */
  everyMs?: number;
  /** Share of requests whose events have no event_id: each such event has a path of its own, by which it can be counted. */
  keyless?: number;
  /** How often a request whose events have ids is sent, all at once, over both endpoints. */
  times?: number;
  /** An attempt without an answer for so long is given up and made again. */
  attemptTimeoutMs?: number;
}

const SITES = ["site-a", "site-b"];
const HOUR_MS = 3_600_000;

export type EventsCrowd = ReturnType<typeof openEventsCrowd>;

/** Clients that send events as sane programs do: the same ones again and again until there is a 202. */
export function openEventsCrowd({ urls, clients = 4, sizes = [1, 1, 5, 40], everyMs = 10, keyless = 0.2, times = 1, attemptTimeoutMs = 20_000 }: EventsCrowdSettings) {
  const all = new Map<string, SentEvent>();
  const answers: Record<string, number> = {};
  const refusals: string[] = [];
  let requests = 0; // that were acknowledged
  let stopping = false;
  let slowestMs = 0;
  const agent = new Agent({ keepAlive: true, maxSockets: clients * times });
  const running = Array.from({ length: clients }, (_, index) => run(index));

  async function run(index: number): Promise<void> {
    for (let count = index; !stopping; count++) {
      const hasIds = Math.random() >= keyless;
      const withinMs = (Math.random() < 0.05 ? 72 : 20) * HOUR_MS; // of what is older than a day users are not remembered
      const events = Array.from({ length: pick(sizes) }, () => makeEvent(hasIds, withinMs));
      if (hasIds && events.length > 1 && count % 4 === 0) events.push(events[0]!); // one and the same, twice in a request
      await Promise.all(Array.from({ length: hasIds ? times : 1 }, (_, time) => send(events, count + time)));
      if (everyMs > 0) await pause(everyMs * (0.5 + Math.random()));
    }
  }

  /** Over this endpoint or that, in this form or that, as the turn has it. */
  async function send(events: readonly WrittenEvent[], turn: number): Promise<void> {
    if (events.length <= 5 && turn % 2 === 0) {
      for (const event of events) await insist("/event", JSON.stringify(event), [event], turn);
    } else {
      const isArray = turn % 3 === 0;
      await insist("/events", isArray ? JSON.stringify(events) : events.map((event) => JSON.stringify(event)).join("\n"), events, turn);
    }
  }

  async function insist(path: string, body: string, events: readonly WrittenEvent[], turn: number): Promise<void> {
    const known = events.map(knownOf);
    for (let attempt = 1; ; attempt++) {
      const startedAt = performance.now();
      for (const one of known) one.sent++;
      const answer = await post(urls[(turn + attempt) % urls.length]! + path, body);
      slowestMs = Math.max(slowestMs, performance.now() - startedAt);
      const name = answer.status >= 400 ? `${answer.status} ${answer.code}` : String(answer.status);
      answers[name] = (answers[name] ?? 0) + 1;
      if (answer.status === 202) {
        if (path === "/events" && answer.accepted !== events.length) refusals.push(`of ${events.length} events ${answer.text} were accepted`);
        for (const one of known) one.acknowledged++;
        requests++;
        return;
      }
      if (answer.status === 503 && !answer.retryAfter) refusals.push(`503 without Retry-After: ${answer.text}`);
      if (answer.code === "EVENTS_BACKLOG_FULL") for (const one of known) one.sent--; // refused for certain: it is not there
      if (answer.status !== 0 && answer.status !== 503) {
        refusals.push(`${path} was answered ${answer.status}: ${answer.text}`);
        return;
      }
      if (stopping && answer.code === "EVENTS_BACKLOG_FULL") return;
      await pause(Math.min(50 * attempt, 500) * (0.5 + Math.random()));
    }
  }

  function knownOf(event: WrittenEvent): SentEvent {
    const key = keyOf(event);
    const known = all.get(key) ?? { event, acknowledged: 0, sent: 0 };
    all.set(key, known);
    return known;
  }

  /** Status 0: no answer came. */
  function post(url: string, body: string): Promise<{ status: number; text: string; code?: string; accepted?: number; retryAfter?: string | undefined }> {
    return new Promise((resolve) => {
      const none = () => resolve({ status: 0, text: "" });
      const sent = request(url, {
        method: "POST", agent, timeout: attemptTimeoutMs, headers: { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) },
      }, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk) => (text += chunk));
        response.on("end", () => (response.complete ? resolve({ ...JSON.parse(text), text, status: response.statusCode!, retryAfter: response.headers["retry-after"] }) : none()));
        response.on("error", none).on("close", none);
      });
      sent.on("timeout", () => sent.destroy());
      sent.on("error", none);
      sent.end(body);
    });
  }

  return {
    all, answers,
    refusals: () => refusals,
    slowestMs: () => slowestMs,
    acknowledgedEvents: () => [...all.values()].filter(({ acknowledged }) => acknowledged > 0).length,
    /** Resolves once so many more requests were acknowledged. */
    async more(count: number, withinMs = 30_000): Promise<void> {
      const goal = requests + count;
      const deadline = Date.now() + withinMs;
      while (requests < goal) {
        if (Date.now() > deadline) throw new Error(`only ${requests} of ${goal} requests were acknowledged within ${withinMs} ms; answers: ${JSON.stringify(answers)}`);
        await pause(20);
      }
    },
    /** Every client finishes the request it is at, however often it has to be sent, unless there is no room for it. */
    async stop(): Promise<void> {
      stopping = true;
      await Promise.all(running);
      agent.destroy();
    },
  };
}

/** What an event is counted by: its id, or a path that no other has. */
export function keyOf({ site_id, event_id, path }: Pick<WrittenEvent, "site_id"> & { event_id?: string | null; path?: string | null }): string {
  return `${site_id} ${event_id ? `id ${event_id}` : `path ${path}`}`;
}

/** Users, paths and days are few, so that figures grow by many events; most have no time of their own, as a browser's. */
function makeEvent(hasId: boolean, withinMs: number): WrittenEvent {
  const name = randomBytes(8).toString("hex");
  return {
    site_id: pick(SITES),
    event_type: pick(["pageview", "pageview", "pageview", "click"]),
    ...(hasId ? { event_id: name, path: `/page-${Math.floor(Math.random() * 5)}` } : { path: `/${name}` }),
    ...(Math.random() < 0.7 && { user_id: `user-${Math.floor(Math.random() * 20)}` }),
    ...(Math.random() < 0.3 && { timestamp: new Date(Date.now() - Math.floor(Math.random() * withinMs)).toISOString() }),
  };
}

function pick<T>(from: readonly T[]): T {
  return from[Math.floor(Math.random() * from.length)]!;
}
