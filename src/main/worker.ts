import { systemClock } from "../core/clock.ts";
import { createLog } from "../core/log.ts";
import { openContext } from "./context.ts";
import { runProcess } from "./process.ts";
import { checkInbox } from "./shared-inbox.ts";
import { stopOnSignal } from "./shutdown.ts";
import { openWorkload } from "./workload.ts";

/** The worker process: settles uploads and keeps house. */
runProcess(async (config) => {
  const log = createLog(config.LOG_LEVEL, "worker");
  const context = await openContext({ config, log, clock: systemClock });
  await context.eviction.refuse();
  await checkInbox(context);
  const workload = await openWorkload(context);
  stopOnSignal([workload, { name: "context", stop: context.close }], config.SHUTDOWN_SECONDS * 1000, log);
});
