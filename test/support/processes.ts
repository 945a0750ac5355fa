import { afterEach, beforeEach, expect } from "vitest";
import { NODE_WARNS, startProgram, type Conditions, type Program } from "./program.ts";
import { openWorld, type World } from "./world.ts";

/** For a test file about our processes: a world for each test, and what was started in it is killed after it. */
export function useProcesses() {
  let world: World;
  let programs: Program[] = [];

  beforeEach(async () => {
    world = await openWorld({ RECONCILE_SECONDS: "1", CONSUMER_BATCH_SIZE: "20" });
  });
  afterEach(async () => {
    for (const program of programs) program.kill("SIGKILL");
    await Promise.all(programs.map(({ exit }) => exit));
    const warnings = programs.map(({ output }) => NODE_WARNS.exec(output())?.[0]).filter(Boolean);
    programs = [];
    await world.close();
    expect(warnings).toEqual([]);
  });

  function start(name: "web" | "worker" | "migrate" | "verify", env: Record<string, string> = {}, conditions: Conditions = {}): Program {
    const program = startProgram(name, { ...(world.env as Record<string, string>), LOG_LEVEL: "info", ...env }, conditions);
    programs.push(program);
    return program;
  }

  async function startWeb(env: Record<string, string> = {}, conditions: Conditions = {}): Promise<Program & { url: string }> {
    const web = start("web", env, conditions);
    const [, url] = await web.says(/"url":"(http[^"]+)"/);
    return Object.assign(web, { url: url! });
  }

  return { world: () => world, start, startWeb };
}
