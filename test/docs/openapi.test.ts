import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import express, { type Express } from "express";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FAILURES } from "../../src/core/errors.ts";
import { createOpenApiRouter } from "../../src/main/openapi.ts";
import { tusAt } from "../support/tus.ts";
import { openWorld, type World } from "../support/world.ts";

const ROOT = join(import.meta.dirname, "../..");
const METHODS = ["get", "head", "post", "put", "patch", "delete", "options"];

interface Operation {
  operationId: string;
  responses: Record<string, { content?: Record<string, { schema: object; example?: unknown; examples?: Record<string, { value?: unknown; $ref?: string }> }> }>;
}

const document = JSON.parse(readFileSync(join(ROOT, "docs/openapi.json"), "utf8"));
const operations = Object.entries(document.paths as Record<string, Record<string, Operation>>).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ name: `${method} ${path}`, method, path, operation })));

let world: World;
beforeAll(async () => {
  world = await openWorld();
});
afterAll(() => world.close());

/** In a layer of Express 5's router: a route, or a router with layers of its own. */
interface Layer {
  route?: { path: string; methods: Record<string, boolean> };
  handle: { stack?: Layer[] };
}

function routesOf(stack: Layer[]): string[] {
  return stack.flatMap(({ route, handle }) => {
    if (!route) return routesOf(handle.stack ?? []);
    const path = route.path.replace(/:(\w+)/g, "{$1}");
    return METHODS.filter((method) => route.methods[method]).map((method) => `${method} ${path}`);
  });
}

describe("the document", () => {
  test("has every route of the site and no other", () => {
    const app = world.site.server.listeners("request")[0] as Express;
    const served = new Set([...routesOf(app.router.stack as unknown as Layer[]), ...routesOf(createOpenApiRouter().stack as unknown as Layer[])]);
    // Express answers HEAD wherever there is a GET; the document names it only where it matters.
    const documented = operations.map(({ name }) => name).filter((name) => !name.startsWith("head ") || served.has(name));
    expect(documented.sort()).toEqual([...served].sort());
    for (const { name } of operations) if (name.startsWith("head ") && !served.has(name)) expect(served).toContain(name.replace("head", "get"));
  });

  test("knows every failure, with its status and its sentence", () => {
    expect(document.components.schemas.Error.properties.code.enum).toEqual(Object.keys(FAILURES));
    for (const [code, { status, message }] of Object.entries(FAILURES)) {
      expect(document.components.examples[code].value).toMatchObject({ code, error: message });
      const uses = operations.flatMap(({ operation }) => Object.entries(operation.responses)
        .filter(([, response]) => JSON.stringify(response).includes(`"#/components/examples/${code}"`)).map(([used]) => used));
      const general = code in document.components.responses.Failure.content["application/json"].examples;
      expect(uses.length > 0 || general, `${code} is nowhere used`).toBe(true);
      expect(new Set(uses), code).toEqual(new Set(uses.length > 0 ? [String(status)] : []));
    }
  });

  test("has the package's version, operations of different names, and references that lead somewhere", () => {
    expect(document.info.version).toBe(JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")).version);
    expect(new Set(operations.map(({ operation }) => operation.operationId)).size).toBe(operations.length);
    for (const [, pointer] of JSON.stringify(document).matchAll(/"\$ref":"#([^"]+)"/g)) expect(resolve(pointer!), pointer).toBeDefined();
  });

  test("gives examples that are what its schemas say", () => {
    for (const { name, operation } of operations) {
      for (const response of Object.values(operation.responses)) {
        for (const { schema, example, examples = {} } of Object.values(response.content ?? {})) {
          const values = Object.values(examples).map(({ value, $ref }) => value ?? (resolve($ref!.slice(1)) as { value: unknown }).value);
          for (const value of example === undefined ? values : [example]) expectToBe(schema, value, name);
        }
      }
    }
  });

  test("is served, also to HEAD, and to no other method", async () => {
    const server = express().use(createOpenApiRouter()).listen(0);
    const { port } = server.address() as { port: number };
    const url = `http://127.0.0.1:${port}/openapi.json`;
    const response = await fetch(url);
    expect([response.status, response.headers.get("content-type")]).toEqual([200, "application/json; charset=utf-8"]);
    expect(await response.json()).toEqual(document);
    expect(await (await fetch(url, { method: "HEAD" })).text()).toBe("");
    const refused = await fetch(url, { method: "POST" });
    expect(refused.headers.get("allow")).toBe("GET, HEAD");
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  });
});

describe("live answers are what the document says", () => {
  async function expectDocumented(name: string, response: Response) {
    const [method, path] = name.split(" ") as [string, string];
    const { responses } = document.paths[path][method] as Operation;
    const documented = responses[response.status];
    expect(documented, `${name} answered ${response.status}`).toBeDefined();
    const body = (await response.json()) as any;
    expectToBe(documented!.content!["application/json"]!.schema, body, name);
    if ("code" in body) expect(FAILURES[body.code as keyof typeof FAILURES].status).toBe(response.status);
    return body;
  }

  test("an upload on its way: receipt, status, list, metadata, counts", async () => {
    const receipt = await expectDocumented("post /api/upload", await world.upload("a,b\n1,2\n", { name: "a.csv", type: "text/csv", uploaderId: "station-7" }));
    const statusUrl = world.url + receipt.status_url;
    expect(await expectDocumented("get /api/files/{id}/status", await fetch(statusUrl))).toMatchObject({ status: "accepted" });
    await expectDocumented("get /api/files/{id}", await fetch(`${world.url}/api/files/${receipt.file_id}`, { headers: { Accept: "application/json" } }));
    await world.settleAll();
    expect(await expectDocumented("get /api/files/{id}/status", await fetch(statusUrl))).toMatchObject({ status: "stored" });
    await expectDocumented("put /api/upload/{filename}", await world.put("b.txt", "b"));
    await world.settleAll();
    const page = await expectDocumented("get /api/files", await fetch(`${world.url}/api/files?limit=1`));
    expect(page.next_cursor).toEqual(expect.any(String));
    await expectDocumented("get /api/files", await fetch(`${world.url}/api/files?limit=1&cursor=${page.next_cursor}`));
    expect(await expectDocumented("get /api/counts", await fetch(`${world.url}/api/counts`))).toMatchObject({ redis: 0, timescale: 2 });
    const ranged = await fetch(`${world.url}/api/files/${receipt.file_id}`, { headers: { Range: "bytes=0-2" } });
    expect([ranged.status, await ranged.text()]).toEqual([206, "a,b"]);
    for (const header of ["ETag", "Accept-Ranges", "Cache-Control", "Last-Modified", "Content-Disposition", "Content-Range"]) expect(ranged.headers.get(header), header).not.toBeNull();
  });

  test("resumable uploads: each answer's status and headers are documented", async () => {
    const tus = tusAt(world.url);
    const created = await tus.create({ "Upload-Length": "10" });
    const answers = [
      ["post /api/uploads", created], ["head /api/uploads/{id}", await tus.head(created.location)], ["patch /api/uploads/{id}", await tus.patch(created.location, 0, tus.bytes(4))],
      ["patch /api/uploads/{id}", await tus.patch(created.location, 4, tus.bytes(6))], ["delete /api/uploads/{id}", await tus.remove((await tus.create({ "Upload-Length": "1" })).location)],
    ] as const;
    for (const [name, response] of answers) {
      const [method, path] = name.split(" ") as [string, string];
      const documented = document.paths[path][method].responses[response.status];
      expect(documented, `${name} answered ${response.status}`).toBeDefined();
      for (const header of ["tus-resumable", "location", "upload-offset", "upload-length", "upload-expires"]) {
        if (response.headers.has(header)) expect(Object.keys(documented.headers).map((one) => one.toLowerCase())).toContain(header);
      }
    }
    await expectDocumented("delete /api/uploads/{id}", await tus.remove(created.location) as Response);
    await expectDocumented("patch /api/uploads/{id}", await tus.patch(created.location, 3, tus.bytes(1)) as Response);
  });

  test("events: one, several, none that is valid, and what they add up to", async () => {
    await expectDocumented("post /event", await world.send({ site_id: "s", event_type: "pageview", path: "/a", user_id: "u", timestamp: "2026-11-20T10:30:00Z", event_id: "1", visitor: null }));
    await expectDocumented("post /event", await world.send({ event_type: "pageview" }));
    expect(await expectDocumented("post /events", await world.send([{ site_id: "s", event_type: "click", visitor: "daily" }, { site_id: "s" }]))).toMatchObject({ accepted: 1 });
    expect(await expectDocumented("post /events", await world.send([{ site_id: "s" }]))).toMatchObject({ accepted: 0, refused: [{ index: 0 }] });
    await expectDocumented("post /events", await world.send(Array.from({ length: 10_001 }, () => ({}))));
    await expectDocumented("post /event", await world.send("<xml/>", { "content-type": "application/xml" }));
    expect(await expectDocumented("get /stats/intake", await fetch(`${world.url}/stats/intake`))).toMatchObject({ waiting_batches: 2, accepted: 2, degraded: [] });
    await world.recordAll();
    const ask = async (path: string, query: string) => expectDocumented(`get ${path}`, await fetch(`${world.url}${path}?${query}`));
    expect(await ask("/stats", "site_id=s&date=2026-11-20")).toMatchObject({ total_views: 1, unique_users: 1, top_paths: [{ path: "/a", views: 1 }] });
    expect(await ask("/stats/series", "site_id=s&from=2026-11-20&to=2026-11-20&interval=hour")).toMatchObject({ total: 1 });
    expect((await ask("/stats/series", "site_id=s&from=2026-11-20&tz=Asia/Kathmandu")).points[0]).toMatchObject({ time: "2026-11-19T18:15:00.000Z", date: "2026-11-20", events: 1 });
    expect((await ask("/stats/types", "site_id=s&from=2026-11-20")).types).toHaveLength(2);
    expect((await ask("/stats/latest", "site_id=s")).events).toHaveLength(2);
    expect(await ask("/stats/sites", "")).toEqual({ sites: ["s"] });
    for (const path of ["/stats", "/stats/series", "/stats/types", "/stats/latest"]) expect(await ask(path, "")).toMatchObject({ error: "site_id required" });
    expect(await ask("/stats", "site_id=s&tz=Mars")).toHaveProperty("code");
  });

  test("what browsers and tus clients ask beforehand", async () => {
    for (const path of ["/event", "/events", "/api/uploads", "/api/uploads/{id}"]) {
      const answer = await fetch(world.url + path.replace("{id}", "01a1f8ae-8272-719c-9153-ca82f55a4ad5"), { method: "OPTIONS", headers: { Origin: "https://example.org" } });
      const documented = Object.keys(document.paths[path].options.responses[answer.status].headers).map((name) => name.toLowerCase());
      for (const [name] of answer.headers) if (/^(access|allow|tus)/.test(name)) expect(documented, `${path}: ${name}`).toContain(name);
    }
  });

  test("dead letters: list, retry, retry all, discard", async () => {
    await world.sql("alter table files add constraint refused check (name not like 'bad%') not valid");
    const { file_id } = (await (await world.put("bad.txt", "bad")).json()) as { file_id: string };
    await world.settleAll();
    const api = (path: string, method = "GET") => fetch(`${world.url}/api/dead-letters${path}`, { method });
    expect((await expectDocumented("get /api/dead-letters", await api(""))).dead_letters).toMatchObject([{ id: file_id, retriable: true }]);
    await expectDocumented("post /api/dead-letters/{id}/retry", await api(`/${file_id}/retry`, "POST"));
    await expectDocumented("post /api/dead-letters/{id}/retry", await api(`/${file_id}/retry`, "POST")); // no longer there
    await world.settleAll();
    await world.context.inbox.store.remove([`manifests/${file_id}`]);
    expect(await expectDocumented("post /api/dead-letters/retry", await api("/retry", "POST"))).toEqual({ retried: 0, without_bytes: 1 });
    await expectDocumented("post /api/dead-letters/{id}/retry", await api(`/${file_id}/retry`, "POST")); // no bytes
    const { status } = await api(`/${file_id}`, "DELETE");
    expect(document.paths["/api/dead-letters/{id}"].delete.responses).toHaveProperty(String(status));
    await expectDocumented("delete /api/dead-letters/{id}", await api(`/${file_id}`, "DELETE"));
    await world.sql("alter table files drop constraint refused");
  });

  test("operations: health, audit, ready, live figures and history", async () => {
    await expectDocumented("get /health", await fetch(`${world.url}/health`));
    expect(await expectDocumented("get /api/audit", await fetch(`${world.url}/api/audit`))).toMatchObject({ balanced: true });
    await expectDocumented("get /ready", await fetch(`${world.url}/ready`));
    await world.context.workers.say("w1", JSON.stringify({ state: "working", entries: 2, because: null, settled: 1, started_at: "2026-11-20T11:19:09.878Z", active_at: null }));
    const figures = await expectDocumented("get /api/live", await fetch(`${world.url}/api/live`, { headers: { Accept: "application/json" } }));
    expect(figures.workers).toHaveLength(1);
    for (const range of ["15m", "24h", "30d", "1h"]) await expectDocumented("get /api/history", await fetch(`${world.url}/api/history?range=${range}`));
    await expectDocumented("get /api/files", await fetch(`${world.url}/api/files?status=any&q=a`));
  });

  test.each<[string, string, RequestInit]>([
    ["put /api/upload/{filename}", "/api/upload/a.txt", { method: "PUT", body: "" }],
    ["put /api/upload/{filename}", "/api/upload/%00", { method: "PUT", body: "a" }],
    ["put /api/upload/{filename}", "/api/upload/a.txt", { method: "PUT", body: "a", headers: { "Idempotency-Key": "é" } }],
    ["post /api/upload", "/api/upload", { method: "POST", body: "a" }],
    ["post /api/upload", "/api/upload", { method: "POST", body: "a", headers: { "Content-Type": "multipart/form-data; boundary=x" } }],
    ["get /api/files", "/api/files?limit=501", {}],
    ["get /api/files/{id}", "/api/files/01a1f8ae-8272-719c-9153-ca82f55a4ad5", {}],
    ["get /api/files/{id}/status", "/api/files/nothing/status", {}],
  ])("a failure of %s at %s", async (name, path, init) => {
    expect(await expectDocumented(name, await fetch(world.url + path, init))).toHaveProperty("code");
  });
});

function resolve(pointer: string): unknown {
  return pointer.slice(1).split("/").reduce<any>((at, part) => at?.[part.replaceAll("~1", "/")], document);
}

const ajv = new Ajv2020({ strict: true, strictTypes: false, allErrors: true });
ajv.addFormat("uuid", /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
ajv.addFormat("date-time", /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/);
ajv.addFormat("date", /^\d{4}-\d\d-\d\d$/);
ajv.addVocabulary(["components"]);
ajv.addSchema({ $id: "https://connectstorm.invalid/openapi", components: { schemas: closed(document.components.schemas) } });

/** Clients must bear new fields; here one that the document does not have is a fault. */
function closed(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(closed);
  if (typeof schema !== "object" || schema === null) return schema;
  const inner = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, closed(value)]));
  return inner["type"] === "object" && inner["properties"] ? { ...inner, additionalProperties: false } : inner;
}

function expectToBe(schema: object, value: unknown, what: string): void {
  const text = JSON.stringify(schema).replaceAll('"#/', '"https://connectstorm.invalid/openapi#/');
  const validate: ValidateFunction = ajv.compile(JSON.parse(text));
  expect(validate(value) ? [] : validate.errors, `${what}: ${JSON.stringify(value)}`).toEqual([]);
}
