import { join } from "node:path";
import { expect, test } from "vitest";
import { startNode } from "../support/program.ts";

const DIST = join(import.meta.dirname, "../../dist");
const MIB = 1024 ** 2;

test("a process whose garbage grows old in a long chain stays small", async () => {
  const program = startNode(["--input-type=module", "-e", `
    import { setTimeout as pause } from "node:timers/promises";
    import { runProcess } from "${DIST}/main/process.js";
    import "${DIST}/objects/measure.js";
    let first = {}; // in use for so long that it grows old, and with it, when nobody wants it any more, all that follow
    let last = first;
    function grow(round) {
      for (let made = 0; made < 400; made++) last = last.next = { text: new Array(150).fill(round) }; // half a MiB
      if (round === 80) first = undefined;
    }
    runProcess(async () => {
      let most = 0;
      for (let round = 0; round < 400; round++) {
        grow(round);
        most = Math.max(most, process.memoryUsage().heapUsed);
        await pause(15);
      }
      console.log("most: " + most);
      process.exit();
    });`], { NODE_ENV: "test", REDIS_URL: "redis://127.0.0.1:1", PG_URI: "postgres://127.0.0.1:1/none" });
  const [, most] = await program.says(/most: (\d+)/);
  await program.exit;
  expect(Number(most)).toBeLessThan(110 * MIB);
}, 60_000);
