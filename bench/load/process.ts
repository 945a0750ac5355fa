/** The load generator's process: takes jobs from its parent, one at a time, and answers with results. */
import type { FromGenerator, Job } from "./job.ts";
import { runJob } from "./run-job.ts";

function tell(message: FromGenerator): void {
  process.send?.(message);
}

process.on("message", (job: Job) => {
  runJob(job, (type) => tell({ type })).then(
    (result) => tell({ type: "done", result }),
    (error: unknown) => tell({ type: "broke", message: String(error) }),
  );
});
process.on("disconnect", () => process.exit(0));
