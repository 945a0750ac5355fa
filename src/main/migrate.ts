import { fileURLToPath } from "node:url";
import { createLog } from "../core/log.ts";
import { migrate } from "../db/migrate.ts";
import { openDb } from "../db/pool.ts";
import { runProcess } from "./process.ts";

/** Brings the database up to date, then ends. */
runProcess(async (config) => {
  const log = createLog(config.LOG_LEVEL, "migrate");
  const db = openDb({ uri: config.PG_URI, poolSize: 2, name: "connectstorm migrate", log, patient: true });
  try {
    const folder = fileURLToPath(new URL("../../sql", import.meta.url));
    const { applied, kind } = await migrate({ db, folder, timeSeries: config.TIME_SERIES, log });
    log.info({ applied: applied.length, ledger: kind }, "the database is up to date");
  } finally {
    await db.close();
  }
});
