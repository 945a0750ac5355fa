import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { openWorkload } from "../../src/main/workload.ts";
import { eventually } from "../support/eventually.ts";
import { startNode, type Program } from "../support/program.ts";
import { servers } from "../support/servers.ts";
import { inboxKeys, openWorld, type World } from "../support/world.ts";

const PROGRAM = join(import.meta.dirname, "../../dist/scripts/simulate/program.js");

let world: World, folder: string, report: string, program: Program | undefined;

beforeAll(async () => {
  world = await openWorld({ MAX_UPLOAD_BYTES: "60000" });
  folder = await mkdtemp(join(tmpdir(), "connectstorm-simulate-"));
});
afterAll(async () => {
  await world.close();
  await rm(folder, { recursive: true });
});
beforeEach(async () => {
  report = join(folder, `report-${(await readdir(folder)).length}.html`);
});
afterEach(async () => {
  program?.kill("SIGKILL");
  await program?.exit;
  program = undefined;
});

/** As `npm run simulate` does once all is built. */
function simulate(args: string, { target = world.url, env = {} }: { target?: string; env?: Record<string, string> } = {}): Program {
  program = startNode([PROGRAM, "--target", target, "--report", report, ...args.split(" ")], { CHROME_PATH: servers.chromium(), ...env });
  return program;
}

async function end(running: Program): Promise<{ code: number | null; output: string; page: string }> {
  const code = await running.exit;
  return { code, output: running.output(), page: await readFile(report, "utf8").catch(() => "") };
}

describe("with a worker", () => {
  let workload: Awaited<ReturnType<typeof openWorkload>>;
  beforeAll(async () => { workload = await openWorkload(world.context); });
  afterAll(() => workload.stop());

  test("hundreds of clients hand in by HTTP, and every receipt is found in the ledger", async () => {
    const before = await world.ledger();
    const { code, output, page } = await end(simulate("--driver http --users 100 --repeats 3 --think 0s..50ms --seed 7 --sockets 40 --expect errors<100%,accounted=100%,throughput>1/s"));
    // 60,000 bytes are the limit, and two of the sample files are larger.
    const [, received = "", attempted = ""] = /Uploads +(\d+) received of (\d+)/.exec(output) ?? [];
    expect(attempted).toBe("300");
    expect(Number(received)).toBeLessThan(300);
    expect(await world.ledger() - before).toBe(Number(received));
    expect(output).toContain(`accounted for: 100 %. ${received} of ${received} are in the ledger, with the bytes that were sent`);
    expect(output).toMatch(new RegExp(`refused: ${300 - Number(received)} `));
    expect(output).toMatch(/413 FILE_TOO_LARGE: The file is larger/);
    expect(output).toMatch(/✓ accounted=100% +100 %/);
    expect(output).toMatch(/ upload +\d+ +[\d.]+ m?s +[\d.]+ m?s/);
    expect(code).toBe(0);
    expect(page).toContain(`All ${received} uploads are accounted for`);
    expect(page.length).toBeLessThan(300_000);
    expect(page).not.toMatch(/<script|src="(?!data:)|href=|url\(/); // it needs no other file
  });

  test("people arriving are measured from when they were due, and an expectation that does not hold ends with 1", async () => {
    const { code, output } = await end(simulate("--driver http --arrivals 40/s --duration 2s --users 200 --expect p95<0.001ms,accounted=100%,late<50%"));
    expect(output).toMatch(/received of 80 /);
    expect(output).toMatch(/✗ p95<0\.001ms/);
    expect(output).toMatch(/✓ late<50%/);
    expect(output).toMatch(/Late +\d+ of 80 arrivals/);
    expect(code).toBe(1);
  });

  test("a good client comes again when it is told to, and hands in once", async () => {
    const small = await openWorld({ MAX_CONCURRENT_UPLOADS: "2" });
    const worker = await openWorkload(small.context);
    try {
      const { code, output } = await end(simulate("--driver http --users 8 --repeats 2 --think 0 --expect errors=0,accounted=100%", { target: small.url }));
      expect(output).toMatch(/Came again \d+ × 503 TOO_BUSY/);
      expect(code).toBe(0);
      expect(await small.ledger()).toBe(16);
    } finally {
      await worker.stop();
      await small.close();
    }
  }, 120_000);

  test("people in Chromium choose and drop files on the page itself, with and without JavaScript", async () => {
    for (const flags of ["", " --no-javascript"]) {
      const before = await world.ledger();
      const { code, output, page } = await end(simulate(`--users 2 --repeats 2 --think 0s..100ms --seed 4${flags} --expect accounted=100%`));
      const received = Number(/Uploads +(\d+) received/.exec(output)?.[1]);
      expect(code, output).toBe(0);
      expect(received).toBeGreaterThan(0);
      expect(await world.ledger() - before).toBe(received);
      expect(output).toMatch(/ page +4 /);
      expect(output).toMatch(/Its memory +at most [\d.]+ MiB/);
      expect(page).toContain("HeadlessChrome");
      expect(await world.sql("select 1 from files where uploader_id = 'simulated-2'")).not.toEqual([]);
    }
  });

  test("a file whose name is not ASCII is handed in, also where the simulation runs in the plain C locale", async () => {
    const files = join(folder, "files");
    await mkdir(files, { recursive: true });
    await writeFile(join(files, "übersicht-日本.txt"), "by both ways");
    const { code, output } = await end(simulate(`--users 1 --repeats 4 --think 0 --timeout 20s --seed 4 --files ${files} --expect errors=0,accounted=100%`, { env: { LC_ALL: "C" } }));
    expect(code, output).toBe(0);
    expect(await world.sql("select distinct name from files where name like '%日本.txt' and uploader_id = 'simulated-1'")).toContainEqual({ name: "übersicht-日本.txt" });
  });

  test("everyone who is refused is shown with what they saw: twelve in the report, the others in files beside it", async () => {
    const tiny = await openWorld({ MAX_UPLOAD_BYTES: "10" });
    try {
      const { code, output, page } = await end(simulate("--users 15 --repeats 1 --think 0 --expect errors=0", { target: tiny.url }));
      expect(output).toMatch(/refused: \d+ .*\n.*(Too large|larger|limit)/);
      expect(output).toContain("none, so there is nothing to account for");
      const shown = [...page.matchAll(/<img src="data:image\/jpeg;base64,[^"]{1000,}" alt="The page as (simulated-\d\d) saw it">/g)].map(([, user]) => user!);
      const beside = `${basename(report, ".html")}-screenshots`;
      const linked = [...page.matchAll(/<a href="([^"]+)">Picture<\/a> <b>(simulated-\d\d)</g)];
      expect(shown).toHaveLength(12);
      expect(new Set([...shown, ...linked.map(([, , user]) => user!)]).size).toBe(15);
      expect(linked.map(([, address]) => address)).toEqual(linked.map(([, , user]) => `${beside}/${user}.jpg`));
      for (const [, address] of linked) expect((await readFile(join(folder, address!))).subarray(0, 3)).toEqual(Buffer.from([0xff, 0xd8, 0xff])); // JPEG
      expect(page.length).toBeLessThan(600_000);
      expect(page).toContain("No upload was received");
      expect(code).toBe(1);
    } finally {
      await tiny.close();
    }
  });

  test("a browser that crashes is an error of those in it, and there is another one", async () => {
    const before = await world.ledger();
    const running = simulate("--users 4 --repeats 8 --think 0 --timeout 20s --expect accounted=100%");
    await eventually(async () => (await world.ledger()) > before, true);
    const crashed = await browsersOf(running.pid);
    expect(crashed).toHaveLength(1);
    process.kill(crashed[0]!, "SIGKILL");
    const { code, output } = await end(running);
    expect(output).toMatch(/browser: \d+ \(the browser or its page crashed\)/);
    expect(output).toMatch(/crashed and was started 2 times/);
    expect(output).not.toMatch(/ timeout: /); // those in the second one wait for nothing
    expect(output).toMatch(/accounted for: 100 %/);
    expect(code).toBe(0);
  });
});

describe("without a worker", () => {
  test("receipts that do not become stored are named, with what was said of them last", async () => {
    const { code, output, page } = await end(simulate("--driver http --users 3 --repeats 1 --think 0 --seed 3 --patience 1500ms"));
    const missing = /missing: (\d+), none of which became stored within 1.5 s/.exec(output)?.[1];
    const named = [...output.matchAll(/^ +([0-9a-f-]{36}) {2}accepted {2}\(.+, simulated-\d\)$/gm)].map(([, id]) => id!);
    expect(named).toHaveLength(Number(missing));
    expect(named.length).toBeGreaterThan(0);
    expect(output).toMatch(/✗ accounted=100% +0 %/);
    for (const id of named) {
      expect(page).toContain(id);
      expect(await (await fetch(`${world.url}/api/files/${id}/status`)).json()).toMatchObject({ status: "accepted" });
    }
    expect(code).toBe(1);
    await world.settleAll();
  });

  test("of everyone in Chromium whose receipt stays missing, the receipt's page is shown", async () => {
    const files = join(folder, "small");
    await mkdir(files);
    await writeFile(join(files, "small.txt"), "nobody is refused for this one");
    const { output, page } = await end(simulate(`--users 3 --repeats 1 --think 0 --patience 500ms --files ${files}`));
    expect(output).toMatch(/missing: 3, none of which/);
    const shown = [...page.matchAll(/<img src="data:image\/jpeg;base64,[^"]{1000,}" alt="The receipt as (simulated-\d) saw it"><figcaption><b>simulated-\d<\/b>, missing,/g)].map(([, user]) => user);
    expect(shown.toSorted()).toEqual(["simulated-1", "simulated-2", "simulated-3"]);
    await world.settleAll();
  });

  test("Ctrl-C reports what there is so far and leaves no browser behind", async () => {
    const running = simulate("--users 2 --repeats 1000 --think 0");
    await eventually(async () => (await browsersOf(running.pid)).length, 1);
    const browsers = await browsersOf(running.pid);
    await eventually(async () => (await inboxKeys(world)).length > 0, true);
    running.kill("SIGINT");
    running.kill("SIGINT"); // as npm passes it on
    const { code, output, page } = await end(running);
    expect(output).toMatch(/Stopped\. So far: 2 users, 1000 visits each/);
    expect(output).toMatch(/Uploads +\d+ received/);
    expect(output).not.toMatch(/\w+Error|ERR_|    at /);
    expect(page).toContain("Stopped after");
    expect(code).toBe(130);
    expect(browsers.filter(isAlive)).toEqual([]);
    await world.settleAll();
  });

  test("a simulation that is killed takes its browser with it", async () => {
    const running = simulate("--users 1 --repeats 1000 --think 0");
    await eventually(async () => (await browsersOf(running.pid)).length, 1);
    const browsers = await browsersOf(running.pid);
    running.kill("SIGKILL");
    await running.exit;
    await eventually(() => browsers.filter(isAlive), []);
    await world.settleAll();
  });
});

describe("wrong usage", () => {
  test.each([
    ["an expectation that is none", "--expect p95=fast", /"fast" is no value for p95/],
    ["a flag that is none", "--user 3", /--user/],
    ["a folder that is not there", "--files nowhere", /--files: nowhere cannot be read/],
  ])("%s is told before anything runs", async (_what, args, why) => {
    const { code, output, page } = await end(simulate(args));
    expect(output).toMatch(why);
    expect(output).not.toContain("•");
    expect(page).toBe("");
    expect(code).toBe(2);
  });

  test("no site there is told, with how to start one", async () => {
    const { code, output } = await end(simulate("--driver http", { target: `http://127.0.0.1:${await closedPort()}` }));
    expect(output).toMatch(/Nothing answers at http:\/\/127.0.0.1:\d+ \(ECONNREFUSED\)/);
    expect(output).toContain("npm start");
    expect(code).toBe(2);
  });

  test("no Chromium is told, with how to name one", async () => {
    const { code, output } = await end(simulate("--users 1", { env: { CHROME_PATH: "/nowhere/chromium" } }));
    expect(output).toContain("CHROME_PATH names /nowhere/chromium, which is not there.");
    expect(code).toBe(2);
  });

  test("settings that are wrong are named, and others than the simulation's do not matter", async () => {
    expect(await end(simulate("--driver http", { env: { PRODUCER_USERS: "many" } }))).toMatchObject({ code: 2, output: expect.stringContaining("PRODUCER_USERS") });
    const env = { PRODUCER_USERS: "2", PRODUCER_REPEATS: "1", NODE_ENV: "production", PG_URI: "nonsense" };
    const { output } = await end(simulate("--driver http --think 0 --patience 300ms", { env }));
    expect(output).toContain("2 clients, 1 visit each");
    await world.settleAll();
  });
});

/** The browsers' first processes among the children of this one. */
async function browsersOf(pid: number): Promise<number[]> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8").catch(() => "");
  const found = await Promise.all(children.split(" ").filter(Boolean).map(async (child) => (
    (await readFile(`/proc/${child}/cmdline`, "utf8").catch(() => "")).includes("--remote-debugging-pipe") ? [Number(child)] : []
  )));
  return found.flat();
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

async function closedPort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
