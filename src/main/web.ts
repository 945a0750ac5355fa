import { systemClock } from "../core/clock.ts";
import { createLog } from "../core/log.ts";
import { openContext } from "./context.ts";
import { runProcess } from "./process.ts";
import { announceInbox } from "./shared-inbox.ts";
import { stopOnSignal } from "./shutdown.ts";
import { openSite } from "./site.ts";
import { openWorkload } from "./workload.ts";

/** The web process: pages and endpoints; with RUN_WORKER_IN_WEB also the worker. */
runProcess(async (config) => {
  const log = createLog(config.LOG_LEVEL, "web");
  const context = await openContext({ config, log, clock: systemClock });
  await context.eviction.refuse();
  await announceInbox(context);
  const running = [await openSite(context)];
  const workload = config.RUN_WORKER_IN_WEB ? [await openWorkload(context)] : [];
  stopOnSignal([...running, ...workload, { name: "context", stop: context.close }], config.SHUTDOWN_SECONDS * 1000, log);
});
