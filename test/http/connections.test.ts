import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import express from "express";
import { afterEach, expect, test } from "vitest";
import { createHttpServer } from "../../src/http/server.ts";
import { eventually } from "../support/eventually.ts";
import { connectRaw } from "./raw.ts";

const [HERE, THERE, ELSEWHERE] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];
type Connection = ReturnType<typeof connectRaw>;

let server: Server;
let open: Connection[] = [];
afterEach(async () => {
  for (const connection of open) connection.close();
  open = [];
  await new Promise((resolve) => server.close(resolve));
});

/** A server that takes twenty connections. @returns its url */
async function serve(settings: { behindProxy?: boolean } = {}, host = "127.0.0.1"): Promise<string> {
  const app = express().get("/", (_req, res) => void res.send("here"));
  server = createHttpServer({ app, idleMs: 30_000, mostConnections: 20, ...settings });
  await new Promise<void>((resolve) => void server.listen(0, host, resolve));
  const { port } = server.address() as AddressInfo;
  return `http://127.0.0.1:${port}`;
}

/** @returns whether the connection was taken: one request on it is answered */
async function isTaken(url: string, from: string): Promise<boolean> {
  const connection = connectRaw(url, { from });
  void connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  const answer = await connection.answer().catch(() => undefined);
  if (!answer) expect(connection.rest()).toBe("");
  else open.push(connection);
  return answer !== undefined;
}

async function takeAll(url: string, from: string): Promise<number> {
  for (let taken = 0; taken < 40; taken++) if (!(await isTaken(url, from))) return taken;
  return Infinity;
}

test.each(["127.0.0.1", "::"])("one address has at most as many connections as are free, on %s, so that others find some", async (host) => {
  const url = await serve({}, host);
  expect([await takeAll(url, HERE), await takeAll(url, THERE), await takeAll(url, ELSEWHERE)]).toEqual([10, 5, 3]);
  expect(await isTaken(url, "127.0.0.4")).toBe(true);
  expect(await isTaken(url, HERE)).toBe(false);
});

test("a connection that ends makes room for another one", async () => {
  const url = await serve();
  expect(await takeAll(url, HERE)).toBe(10);
  for (const connection of open.splice(0, 4)) connection.close();
  await eventually(() => new Promise((resolve) => server.getConnections((_error, count) => resolve(count))), 6);
  expect(await takeAll(url, HERE)).toBe(4);
});

test("no more are taken than there may be", async () => {
  const url = await serve();
  let taken = 0;
  for (let i = 1; i <= 25; i++) taken += (await isTaken(url, `127.0.0.${i}`)) ? 1 : 0;
  expect(taken).toBe(20);
});

test("a proxy, from which all connections come, may have all", async () => {
  const url = await serve({ behindProxy: true });
  expect(await takeAll(url, HERE)).toBe(20);
});
