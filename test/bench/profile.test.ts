import { expect, test } from "vitest";
import { nameOf, placeOf, selfTimes } from "../../bench/profile.ts";

const frame = (functionName: string, url: string) => ({ functionName, url, lineNumber: 6 });

test("a sample stands for the time until the next one, and idle time is nobody's", () => {
  const lines = selfTimes({
    nodes: [
      { id: 1, callFrame: frame("(idle)", "") },
      { id: 2, callFrame: frame("put", "file:///home/x/dist/uploads/inbox.js") },
      { id: 3, callFrame: frame("send", "file:///home/x/node_modules/@a/b/lib/send.js") },
    ],
    samples: [2, 1, 3, 2],
    timeDeltas: [0, 1_000, 50_000, 3_000, 9_000],
  }, nameOf);
  expect(lines).toEqual([
    { where: "put uploads/inbox.js:7", selfMs: 10, share: 10 / 13 },
    { where: "send @a/b/lib/send.js:7", selfMs: 3, share: 3 / 13 },
  ]);
});

test.each([
  ["file:///x/node_modules/lmdb/write.js", "lmdb"],
  ["/x/node_modules/@tus/server/dist/server.js", "@tus/server"],
  ["/x/node_modules/a/node_modules/b/i.js", "b"],
  ["file:///x/dist/uploads/accept.js", "uploads/accept.js"],
  ["node:internal/crypto/hash", "node:internal/crypto/hash"],
  ["", "put"],
])("%s is counted under %s", (url, place) => {
  expect(placeOf(frame("put", url))).toBe(place);
});
