import { randomUUID } from "node:crypto";
import type { Express } from "express";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openWorld, type World } from "../support/world.ts";
import { ask, expectRefusal } from "./raw.ts";

let world: World;
let fileId: string;
beforeAll(async () => {
  world = await openWorld();
  fileId = ((await (await world.upload("a file")).json()) as { file_id: string }).file_id;
  await world.settleAll();
});
afterAll(() => world.close());

const ASSET: [string, string[]] = ["/assets/style.css", ["GET", "HEAD"]];
const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "QUERY"];

function send(method: string, path: string, headers = "") {
  return ask(world.url, `${method} ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n${headers}\r\n`, method);
}

interface Layer {
  route?: { path: string; methods: Record<string, boolean> };
  handle: { stack?: Layer[] };
}

/** Every address of the app with the methods it has, as Express knows them. */
function routes(): [path: string, methods: string[]][] {
  const found: [string, string[]][] = [];
  const walk = (layers: Layer[]) => {
    for (const { route, handle } of layers) {
      if (route) found.push([route.path, Object.keys(route.methods).filter((name) => name !== "_all").map((name) => name.toUpperCase())]);
      else if (handle.stack) walk(handle.stack);
    }
  };
  walk((world.site.server.listeners("request")[0] as Express).router.stack as unknown as Layer[]);
  return found.map(([path, methods]) => [path, methods.includes("GET") ? [...methods, "HEAD"] : methods]);
}

/** @returns its id */
async function insertDeadLetter(): Promise<string> {
  const id = randomUUID().replace(/^(.{14})./, "$17");
  await world.sql("insert into dead_letters (upload_id, attempts, code, reason, first_failed_at) values ($1, 3, 'SETTLE_FAILED', 'a test', now())", [id]);
  return id;
}

describe("a known address", () => {
  test("refuses every other method with 405 and says in Allow which it takes", async () => {
    const known = routes();
    expect(known.map(([path]) => path)).toEqual(expect.arrayContaining(["/", "/upload", "/api/upload", "/api/upload/:filename", "/api/files/:id", "/health"]));
    for (const [path, methods] of [...known, ASSET]) {
      const address = path.replace(":filename", "a.txt").replace(":id", fileId);
      for (const method of METHODS.filter((name) => !methods.includes(name))) {
        const answer = await send(method, address);
        expect([method, path, answer.status, answer.headers.allow?.split(", ").sort()]).toEqual([method, path, 405, [...methods].sort()]);
        if (method !== "HEAD") expectRefusal(answer, "METHOD_NOT_ALLOWED");
      }
    }
  });

  test("answers HEAD wherever it answers GET, with the same status and headers and no body", async () => {
    for (const [path, methods] of [...routes(), ASSET]) {
      if (!methods.includes("GET")) continue;
      const address = path.replace(":id", path.startsWith("/dead-letters/") ? await insertDeadLetter() : fileId) + (path.startsWith("/stats") ? "?site_id=s" : "");
      const json = path === "/api/live" ? "Accept: application/json\r\n" : ""; // as a stream it would not end
      const [get, head] = [await send("GET", address, json), await send("HEAD", address, `Connection: close\r\n${json}`)];
      expect([path, head.status, head.headers["content-type"]]).toEqual([path, get.status, get.headers["content-type"]]);
      expect([path, get.status < 400]).toEqual([path, true]);
      if (path.startsWith("/api/files")) expect([path, head.headers["content-length"]]).toEqual([path, get.headers["content-length"]]);
    }
  });

  test("has no method CONNECT, nor does the rest of the server", async () => {
    expectRefusal(await ask(world.url, "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n"), "MALFORMED_REQUEST");
    expect((await send("GET", "/health")).status).toBe(200);
  });
});

describe("an address there is nothing at is answered 404, by every method", () => {
  test.each([
    "/nothing", "/api", "/api/", "/api/nothing", "/api/upload/a/b.txt", "/api/files/x/y/z", "/health/more", "/assets/nothing.css", "/assets/", "/assets",
    "/assets/../package.json", "/assets/%2e%2e/package.json", "/assets/..%2fpackage.json", "/assets/.hidden", "//health", "/.env", "/%00", "/api/%00", "*",
    "/__proto__", "/constructor", "/api/files/__proto__/status", "/api/files/x/status?__proto__[a]=b",
  ])("%s", async (path) => {
    for (const method of path.startsWith("/assets") ? ["GET"] : ["GET", "POST", "PUT", "DELETE"].filter((name) => name === "GET" || !path.endsWith("status") && !path.includes("status?"))) {
      const answer = await send(method, path);
      expectRefusal(answer, path.includes("/status") ? "FILE_NOT_FOUND" : "NOT_FOUND");
    }
  });
});

describe("percent-encoding that is none is refused", () => {
  test.each([
    ["a lone per cent sign", "PUT", "/api/upload/100%"],
    ["digits that are none", "PUT", "/api/upload/%zz.txt"],
    ["half a UTF-8 character", "PUT", "/api/upload/%E0%A4.txt"],
    ["a byte that begins no character", "PUT", "/api/upload/%ff.txt"],
    ["a lone surrogate", "PUT", "/api/upload/%ED%A0%80.txt"],
    ["an overlong slash", "PUT", "/api/upload/%C0%AF.txt"],
    ["in the id of a file", "GET", "/api/files/%E0%A4"],
    ["in the id of a status", "GET", "/api/files/%/status"],
    ["in the address of a receipt", "GET", "/upload/%E0%A4"],
  ])("%s", async (_what, method, path) => {
    expectRefusal(await send(method, path), "MALFORMED_REQUEST");
  });

  test("in the query is taken as it stands", async () => {
    expect((await send("GET", "/health?%E0%A4=%zz&%")).status).toBe(200);
  });
});

describe("every answer of the API", () => {
  test.each([
    ["GET", "/health", 200], ["GET", "/ready", 200], ["GET", "/api/counts", 200], ["GET", "/api/files", 200], ["GET", "/api/files?limit=0", 400],
    ["GET", "/api/files?limit=1e9", 400], ["GET", "/api/files?limit=5&limit=6", 400], ["GET", "/api/files?cursor=nonsense", 400],
    ["GET", "/api/files?cursor=a&cursor=b", 400], ["GET", `/api/files?cursor=${"a".repeat(300)}`, 400],
    ["GET", "/api/nothing", 404], ["POST", "/api/upload", 415], ["PUT", "/api/upload/a.txt", 400], ["DELETE", "/api/files", 405],
  ])("says what it is, may not be guessed at, and has a request id: %s %s -> %i", async (method, path, status) => {
    const [first, second] = [await send(method, path), await send(method, path)];
    expect(first.status).toBe(status);
    for (const { headers } of [first, second]) {
      expect(headers).toMatchObject({ "content-type": "application/json; charset=utf-8", "x-content-type-options": "nosniff", "x-request-id": expect.stringMatching(/^[\w-]{5,}$/) });
      expect(headers).not.toHaveProperty("x-powered-by");
    }
    expect(first.headers["x-request-id"]).not.toBe(second.headers["x-request-id"]);
    if (status >= 400) expect(JSON.parse(first.text).request_id).toBe(first.headers["x-request-id"]);
  });
});
