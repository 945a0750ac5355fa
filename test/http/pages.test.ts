import type { Express } from "express";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { FAILURES, type FailureCode } from "../../src/core/errors.ts";
import { inboxOf } from "./raw.ts";
import { openWorld, type World } from "../support/world.ts";

let world: World;
let errors: ReturnType<typeof vi.spyOn>;
beforeAll(async () => {
  world = await openWorld({ MAX_UPLOAD_BYTES: "10000", SMALL_OBJECT_BYTES: "1024" });
  errors = vi.spyOn(world.context.log, "error");
});
afterAll(() => world.close());

const BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

function expectStrict({ headers }: Response) {
  const policy = Object.fromEntries(headers.get("content-security-policy")!.split(";").map((rule) => rule.trim().split(/ (.*)/s)));
  expect(policy).toMatchObject({
    "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "form-action": "'self'", "frame-ancestors": "'none'", "base-uri": "'none'",
  });
  expect(headers.get("content-security-policy")).not.toMatch(/unsafe|https?:|upgrade-insecure-requests|\*/);
  expect(headers.get("x-content-type-options")).toBe("nosniff");
  expect(headers.get("x-frame-options")).toBe("DENY");
  expect(headers.get("x-request-id")).toBeTruthy();
  expect(headers.get("strict-transport-security")).toBeNull(); // on plain HTTP it locks people out
}

/** What a strict policy would stop: nobody should have to find out in a browser. */
function expectNothingInline(html: string) {
  expect(html).not.toMatch(/<script(?![^>]*\bsrc=)[^>]*>|<style[\s>]|<[^>]*\s(style|on[a-z]+)=|<[^>]*javascript:/i);
}

async function expectErrorPage(response: Response, code: FailureCode) {
  const html = await response.text();
  expect([response.status, response.headers.get("content-type")]).toEqual([FAILURES[code].status, "text/html; charset=utf-8"]);
  expectStrict(response);
  expectNothingInline(html);
  expect(html).toContain(`<code>${code}</code>`);
  expect(html).toContain(`<code>${response.headers.get("x-request-id")}</code>`);
  return html;
}

function send(body: FormData | string, headers: Record<string, string> = {}) {
  return fetch(`${world.url}/upload`, { method: "POST", body, headers: { Accept: BROWSER, ...headers }, redirect: "manual" });
}

function form(...fields: [string, string | Blob, string?][]) {
  const made = new FormData();
  for (const [name, value, fileName] of fields) {
    if (value instanceof Blob) made.append(name, value, fileName);
    else made.append(name, value);
  }
  return made;
}

const BOUNDARY = { "Content-Type": "multipart/form-data; boundary=b" };
const part = (disposition: string) => `--b\r\nContent-Disposition: form-data; ${disposition}\r\n\r\nhello\r\n--b--\r\n`;

describe("a page", () => {
  test.each(["/upload", "/dashboard", "/upload/:id"])("%s has a strict policy and nothing that it would stop", async (path) => {
    const { file_id } = (await (await world.upload("hello", { name: '"><script>alert(1)<script>.txt', uploaderId: "<b onclick=alert(1)>" })).json()) as { file_id: string };
    await world.settleAll();
    const response = await fetch(world.url + path.replace(":id", file_id), { headers: { Accept: BROWSER } });
    expect([response.status, response.headers.get("content-type")]).toEqual([200, "text/html; charset=utf-8"]);
    expectStrict(response);
    const html = await response.text();
    expectNothingInline(html);
    expect(html).not.toContain("<script>alert");
    if (path !== "/upload") expect(html).toContain("&lt;script&gt;alert");
  });

  test("is not shown to a host that was made up", async () => {
    const { request } = await import("node:http");
    const answer = await new Promise<string>((resolve, reject) => {
      request(`${world.url}/upload`, { headers: { Host: '"><script>alert(1)</script>' } }, (answer) => {
        let text = "";
        answer.setEncoding("utf8").on("data", (chunk: string) => void (text += chunk)).on("end", () => resolve(text));
      }).on("error", reject).end();
    });
    expect(JSON.parse(answer)).toMatchObject({ code: "MALFORMED_REQUEST" });
    expect(answer).not.toContain("<script>");
  });
});

describe("a form that a person sent", () => {
  test("leads to the receipt", async () => {
    const response = await send(form(["file", new Blob(["hello"]), "a.txt"], ["uploader_id", "me"]));
    expect(response.status).toBe(303);
    const receipt = await fetch(new URL(response.headers.get("location")!, world.url), { headers: { Accept: BROWSER } });
    expect(receipt.status).toBe(200);
    expectStrict(receipt);
    expect(await receipt.text()).toContain("a.txt");
    await world.settleAll();
  });

  test.each<[string, () => Promise<Response>, FailureCode]>([
    ["without a file", () => send(form(["uploader_id", "me"])), "FILE_REQUIRED"],
    ["with no file chosen", () => send(form(["file", new Blob([]), ""])), "FILE_REQUIRED"],
    ["with an empty file", () => send(form(["file", new Blob([]), "empty.txt"])), "EMPTY_FILE"],
    ["with a file that is too large", () => send(form(["file", new Blob([Buffer.alloc(10_001)]), "large.bin"])), "FILE_TOO_LARGE"],
    ["with a file that is far too large", () => send(form(["file", new Blob([Buffer.alloc(10_000_000)]), "large.bin"])), "FILE_TOO_LARGE"],
    ["with two files", () => send(form(["file", new Blob(["a"]), "a.txt"], ["file", new Blob(["b"]), "b.txt"])), "UNEXPECTED_FIELD"],
    ["with a sender that is too long", () => send(form(["uploader_id", "u".repeat(129)], ["file", new Blob(["a"]), "a.txt"])), "INVALID_UPLOADER_ID"],
    ["with a name that is none", () => send(part('name="file"; filename=".."'), BOUNDARY), "INVALID_FILE_NAME"],
    ["that is malformed", () => send("nonsense", BOUNDARY), "MALFORMED_MULTIPART"],
    ["that is cut off", () => send(part('name="file"; filename="a.txt"').slice(0, -4), BOUNDARY), "MALFORMED_MULTIPART"],
    ["that is no multipart form", () => send("a=b", { "Content-Type": "application/x-www-form-urlencoded" }), "UNSUPPORTED_MEDIA_TYPE"],
  ])("%s gets a page that says so", async (_what, request, code) => {
    const html = await expectErrorPage(await request(), code);
    expect(html).toContain(FAILURES[code].message.replaceAll("'", "&#39;"));
    await world.settleAll();
    expect(await inboxOf(world)).toEqual([]);
  });
});

describe("an error is a page for people and JSON for programs", () => {
  test.each<[string, string, string, FailureCode]>([
    ["an address there is nothing at", "GET", "/nothing", "NOT_FOUND"],
    ["a receipt nobody has", "GET", "/upload/01890a5d-ac96-774b-bcce-b302099a8057", "FILE_NOT_FOUND"],
    ["a receipt of no id", "GET", "/upload/%3Cscript%3E", "FILE_NOT_FOUND"],
    ["an address that is badly encoded", "GET", "/upload/%E0%A4", "MALFORMED_REQUEST"],
    ["a method that is not taken", "DELETE", "/upload", "METHOD_NOT_ALLOWED"],
    ["a stylesheet there is not", "GET", "/assets/nothing.css", "NOT_FOUND"],
  ])("%s", async (_what, method, path, code) => {
    await expectErrorPage(await fetch(world.url + path, { method, headers: { Accept: BROWSER } }), code);
    for (const accept of ["*/*", "application/json", "text/plain", "text/html;q=0.1, application/json"]) {
      const response = await fetch(world.url + path, { method, headers: { Accept: accept } });
      expect([response.status, await response.json()]).toEqual([FAILURES[code].status, { error: expect.any(String), code, request_id: response.headers.get("x-request-id") }]);
      expect(response.headers.get("x-content-type-options")).toBe("nosniff");
      }
  });

  test.each(["/api/nothing", "/api/files/nonsense", "/api/upload"])("but always JSON below /api: %s", async (path) => {
    const response = await fetch(world.url + path, { headers: { Accept: BROWSER } });
    expect([response.status >= 400, response.headers.get("content-type")]).toEqual([true, "application/json; charset=utf-8"]);
    expect(await response.json()).toMatchObject({ request_id: response.headers.get("x-request-id") });
  });

  test("and HEAD of a page that is not there has its status and no body", async () => {
    const response = await fetch(`${world.url}/nothing`, { method: "HEAD", headers: { Accept: BROWSER } });
    expect([response.status, await response.text()]).toEqual([404, ""]);
  });

  test("and none of them was taken for a bug", () => {
    expect(errors).not.toHaveBeenCalled();
  });
});

describe("a bug", () => {
  test.each([
    ["a person", BROWSER, "/upload/01890a5d-ac96-774b-bcce-b302099a8057", "text/html; charset=utf-8"],
    ["a program", "*/*", "/api/files", "application/json; charset=utf-8"],
  ])("tells %s nothing of itself but the request id, under which it is logged", async (_whom, accept, path, type) => {
    const query = vi.spyOn(world.context.requestDb, "query").mockRejectedValue(new TypeError("secret-canary"));
    const response = await fetch(world.url + path, { headers: { Accept: accept } });
    query.mockRestore();
    const text = await response.text();
    const requestId = response.headers.get("x-request-id")!;
    expect([response.status, response.headers.get("content-type")]).toEqual([500, type]);
    expect(text).not.toMatch(/secret-canary|TypeError|node_modules|\.ts:/);
    expect(text).toContain(requestId);
    expect(errors.mock.calls).toEqual([[expect.objectContaining({ requestId }), "request failed: a bug"]]);
    errors.mockClear();
  });

  test("in the error page itself is answered in JSON", async () => {
    const app = world.site.server.listeners("request")[0] as Express;
    const render = vi.spyOn(app, "render").mockImplementation((...args: unknown[]) => (args.at(-1) as (error: Error) => void)(new Error("secret-canary")));
    const response = await fetch(`${world.url}/nothing`, { headers: { Accept: BROWSER } });
    render.mockRestore();
    const text = await response.text();
    expect([response.status, JSON.parse(text).code]).toEqual([404, "NOT_FOUND"]);
    expect(text).not.toContain("secret-canary");
    expect(errors).toHaveBeenCalledOnce();
    errors.mockClear();
  });
});
