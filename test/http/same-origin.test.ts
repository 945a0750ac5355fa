import { request } from "node:http";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openWorld, type World } from "../support/world.ts";

let world: World;
let proxied: World;
beforeAll(async () => {
  [world, proxied] = await Promise.all([openWorld(), openWorld({ TRUST_PROXY: "1" })]);
});
afterAll(() => Promise.all([world.close(), proxied.close()]));

/** Headers as they are given: fetch would not let a test say where it comes from. */
function post(to: World, path: string, headers: Record<string, string>, body = ""): Promise<{ status: number; text: string; location: string | undefined }> {
  return new Promise((resolve, reject) => {
    const asked = request(to.url + path, { method: "POST", headers: { "Content-Length": Buffer.byteLength(body), ...headers } }, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (chunk: string) => void (text += chunk));
      answer.on("end", () => resolve({ status: answer.statusCode!, text, location: answer.headers.location }));
    });
    asked.on("error", reject).end(body);
  });
}

const HOST = "files.example:8080";

test.each<[string, Record<string, string>]>([
  ["a program, which says nothing", {}],
  ["a page of this site", { "Sec-Fetch-Site": "same-origin", Origin: `http://${HOST}` }],
  ["a person, by hand", { "Sec-Fetch-Site": "none" }],
  ["an older browser on a page of this site", { Origin: `http://${HOST}` }],
  ["such a browser, behind a proxy that ends TLS", { Origin: `https://${HOST}` }],
  ["such a browser, to a host in capitals", { Origin: `http://${HOST}`, Host: HOST.toUpperCase() }],
])("%s may change something", async (_who, headers) => {
  expect((await post(world, "/api/dead-letters/retry", { Host: HOST, ...headers })).status).toBe(200);
});

test.each<[string, Record<string, string>]>([
  ["another site", { "Sec-Fetch-Site": "cross-site", Origin: "https://evil.example" }],
  ["another site that pretends its origin", { "Sec-Fetch-Site": "cross-site", Origin: `http://${HOST}` }],
  ["a neighbouring site", { "Sec-Fetch-Site": "same-site", Origin: "http://www.files.example:8080" }],
  ["another site, in an older browser", { Origin: "https://evil.example" }],
  ["another port of this host, in an older browser", { Origin: "http://files.example:9090" }],
  ["a sandboxed page", { Origin: "null" }],
  ["what is no origin", { Origin: HOST }],
  ["a site that claims to be forwarded, where no proxy is trusted", { Origin: "https://evil.example", "X-Forwarded-Host": "evil.example" }],
])("%s may not", async (_who, headers) => {
  for (const path of ["/api/dead-letters/retry", "/dead-letters/retry", "/dead-letters/x/retry", "/dead-letters/x/discard", "/upload"]) {
    const { status, text } = await post(world, path, { Host: HOST, ...headers });
    expect([path, status, JSON.parse(text).code]).toEqual([path, 403, "CROSS_SITE_REQUEST"]);
  }
});

test("behind a trusted proxy the host that counts is the one it names", async () => {
  const behind = { Host: "10.0.0.7:8080", "X-Forwarded-Host": "files.example" };
  expect((await post(proxied, "/api/dead-letters/retry", { ...behind, Origin: "https://files.example" })).status).toBe(200);
  expect((await post(proxied, "/api/dead-letters/retry", { ...behind, Origin: "http://10.0.0.7:8080" })).status).toBe(403);
});

test("a file that another site's page sends is not taken in, and a person is told so on a page", async () => {
  const form = (headers: Record<string, string>) => post(world, "/upload", { Host: HOST, Accept: "text/html", "Content-Type": "multipart/form-data; boundary=b", ...headers },
    '--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhello\r\n--b--\r\n');
  const refused = await form({ "Sec-Fetch-Site": "cross-site" });
  expect([refused.status, refused.text.includes("another site")]).toEqual([403, true]);
  expect(await world.context.inbox.store.list("", { limit: 1 })).toEqual([]);
  expect((await form({ "Sec-Fetch-Site": "same-origin" })).location).toMatch(/^\/upload\/[0-9a-f-]{36}$/);
});
