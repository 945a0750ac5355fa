import { startProgram, type Conditions, type Program } from "../support/program.ts";

export type Slot = ReturnType<typeof openSlot>;

/**
 * A place in which one of our processes runs, is killed, and is started again. What dies without having been killed by
 * us is remembered: nothing may.
 */
export function openSlot(name: "web" | "worker", env: Record<string, string>, conditions: Conditions = {}) {
  let program: Program | undefined;
  let expectedToDie = false;
  const deaths: string[] = [];
  const programs: Program[] = [];

  /** @param more  settings for this start only, such as FAILPOINTS; and what else is unlike production */
  async function start(more: Record<string, string> = {}, other: Conditions = {}): Promise<Program> {
    expectedToDie = Boolean(more.FAILPOINTS?.includes("kill") || other.strace?.some((argument) => argument.includes("KILL")));
    const started = startProgram(name, { ...env, ...more }, { ...conditions, ...other });
    program = started;
    programs.push(started);
    started.child.once("exit", (code, signal) => {
      if (program === started) program = undefined;
      if (!expectedToDie) deaths.push(`${name} ended by itself with ${code ?? signal}:\n${started.output().slice(-2_000)}`);
    });
    await started.says(name === "web" ? /"msg":"listening"/ : /"msg":"settling"/);
    return started;
  }

  async function kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    if (!program) return;
    const { exit } = program;
    expectedToDie = true;
    program.kill(signal);
    await exit;
  }

  /** Resolves when it is gone, as a failpoint had it. */
  async function died(): Promise<void> {
    await program?.exit;
  }

  async function restart(more: Record<string, string> = {}, other: Conditions = {}): Promise<Program> {
    await kill();
    return start(more, other);
  }

  return {
    name, start, kill, died, restart,
    /** SIGSTOP and SIGCONT: it stands still, and nobody is told. */
    pause: () => program?.kill("SIGSTOP"),
    resume: () => program?.kill("SIGCONT"),
    end: () => kill(),
    program: () => program,
    deaths: () => deaths,
    /** All that it ever said. */
    output: () => programs.map((one) => one.output()).join(""),
  };
}
