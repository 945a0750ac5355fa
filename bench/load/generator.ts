import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { FromGenerator, Job, JobResult } from "./job.ts";

export interface Marks {
  /** Called when the measured stretch begins and when it ends. */
  onMeasuring?: () => void;
  onMeasured?: () => void;
}

/** The load generator, in a process of its own so that its work and the bench's do not mix. */
export function openGenerator() {
  const child = fork(fileURLToPath(new URL("process.js", import.meta.url)), { stdio: ["ignore", "inherit", "inherit", "ipc"] });

  /** One job at a time. */
  function run(job: Job, marks: Marks = {}): Promise<JobResult> {
    return new Promise((resolve, reject) => {
      const over = (): void => {
        child.off("message", onMessage);
        child.off("exit", onExit);
      };
      const onExit = (code: number | null): void => {
        over();
        reject(new Error(`the load generator ended with ${code}`));
      };
      const onMessage = (message: FromGenerator): void => {
        if (message.type === "measuring") marks.onMeasuring?.();
        else if (message.type === "measured") marks.onMeasured?.();
        else {
          over();
          if (message.type === "done") resolve(message.result);
          else reject(new Error(message.message));
        }
      };
      child.on("message", onMessage);
      child.once("exit", onExit);
      child.send(job);
    });
  }

  async function close(): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.disconnect();
    await once(child, "exit");
  }

  return { run, close };
}
export type Generator = ReturnType<typeof openGenerator>;
