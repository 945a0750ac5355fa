/** For vitest: which files of tests were lost with their process before one test of them was known, and what these processes died of. */
import { subscribe } from "node:diagnostics_channel";
import { writeFileSync } from "node:fs";
import type { ChildProcess } from "node:child_process";
import type { Reporter, SerializedError, TestModule } from "vitest/node";

/** The environment's name for the file to write; without it nothing is written. */
export const LOST_TEST_FILES = "LOST_TEST_FILES";

export interface LostTestFiles {
  /** Absolute. Empty where more went wrong than that. */
  files: string[];
  /** Of the processes that vitest started and did not end itself, such as "SIGSEGV" or "exit code 134". */
  deaths: string[];
}

/** vitest 4 tells neither the file, nor the exit code or signal. */
export default class LostTestFilesReporter implements Reporter {
  #deaths: string[] = [];

  onInit(): void {
    subscribe("child_process", (message) => {
      const { process: child } = message as { process: ChildProcess };
      child.once("exit", (code, signal) => {
        if (signal !== "SIGTERM" && code !== 0) this.#deaths.push(signal ?? `exit code ${code}`); // SIGTERM is vitest's own way to end them
      });
    });
  }

  onTestRunEnd(modules: readonly TestModule[], errors: readonly SerializedError[]): void {
    const file = process.env[LOST_TEST_FILES];
    if (!file) return;
    const lost = modules.filter((module) => module.children.size === 0 && module.state() !== "failed").map(({ moduleId }) => moduleId);
    const isAll = errors.length === lost.length && errors.every(({ cause }) => (cause as Error | undefined)?.message === "Worker exited unexpectedly");
    writeFileSync(file, JSON.stringify({ files: isAll ? lost : [], deaths: this.#deaths } satisfies LostTestFiles));
  }
}
