import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import express from "express";
import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Failure, Unavailable } from "../../src/core/errors.ts";
import { createAnswerErrors } from "../../src/http/answer-errors.ts";

const FAULTS: Record<string, () => Error> = {
  "/postgres": () => new Unavailable("postgres", { cause: "gone" }),
  "/inbox": () => new Unavailable("inbox", { cause: "gone" }),
  "/full": () => new Unavailable("storage", { cause: "no room", full: true }),
  "/damaged": () => new Failure("FILE_DAMAGED", undefined, { cause: new Error("two sums") }),
  "/busy": () => new Failure("TOO_BUSY"),
  "/bug": () => new TypeError("a bug"),
};

let server: Server;
let lines: { level: string; msg: string; requestId: string; code?: string; refused?: number }[];
beforeAll(async () => {
  const log = pino({ level: "debug", formatters: { level: (label) => ({ level: label }) } }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const { answerNotFound, answerError } = createAnswerErrors(log);
  const app = express();
  let requests = 0;
  app.use((_req, res, next) => {
    res.locals.requestId = `r${++requests}`;
    next();
  });
  for (const [path, fault] of Object.entries(FAULTS)) app.get(path, () => { throw fault(); });
  app.use(answerNotFound, answerError);
  server = createServer(app).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
});
afterAll(() => server.close());

async function ask(path: string, times: number): Promise<string[]> {
  lines = [];
  const ids: string[] = [];
  for (let i = 0; i < times; i++) {
    const answer = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`);
    ids.push(((await answer.json()) as { request_id: string }).request_id);
  }
  expect(lines.map(({ requestId }) => requestId)).toEqual(ids); // whatever else: who has an id finds it
  return lines.map(({ level }) => level);
}

test("a dependency that is away has a line a minute, and takes nobody else's", async () => {
  expect(await ask("/postgres", 4)).toEqual(["warn", "debug", "debug", "debug"]);
  expect(await ask("/inbox", 2)).toEqual(["warn", "debug"]);
  expect(await ask("/full", 2)).toEqual(["warn", "debug"]);
  expect(lines[0]).toMatchObject({ code: "OUT_OF_SPACE", refused: 1, msg: "request refused" });
});

test.each([["/damaged", "warn"], ["/bug", "error"], ["/busy", "debug"], ["/nowhere", "debug"]])("each request to %s has a line of its own: %s", async (path, level) => {
  expect(await ask(path, 3)).toEqual([level, level, level]);
});
