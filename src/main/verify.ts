import { systemClock } from "../core/clock.ts";
import { createLog } from "../core/log.ts";
import { openDb } from "../db/pool.ts";
import { createDamage } from "../files/damage.ts";
import { verifyAll, type Found } from "../files/verify-all.ts";
import { createVerifier } from "../objects/verify.ts";
import { openStorage } from "./context.ts";
import { runProcess } from "./process.ts";

const DAMAGED = 1;
const NOT_CHECKED = 2;
const PROGRESS_EVERY_MS = 2_000;
const REMEMBERED = 100_000;
const MOST_FILES_SHOWN = 20;

/**
 * Reads every stored object once, at full speed, and says which are damaged. Safe beside running processes.
 * Exit code: 1 when something is damaged, 2 when that could not be found out.
 */
runProcess(async (config) => {
  const log = createLog("silent", "verify"); // what there is to say is printed
  const db = openDb({ uri: config.PG_URI, poolSize: config.PG_POOL_SIZE, name: "connectstorm verify", log });
  const storage = await openStorage(config);
  try {
    const verifier = createVerifier({ store: storage, mostRemembered: REMEMBERED, rememberMs: Infinity });
    const damage = createDamage({ db, verifier, name: "verify", log });
    const startedAt = systemClock.now().getTime();
    const seconds = () => Math.max(0.1, (systemClock.now().getTime() - startedAt) / 1000);
    const figures = (found: Found) => `${found.objects} objects, ${found.sizeBytes} bytes in ${seconds().toFixed(1)} s, ${found.damaged.size} damaged`;
    let saidAt = startedAt;
    const found = await verifyAll({ db, verifier, damage }, (soFar) => {
      const now = systemClock.now().getTime();
      if (!process.stderr.isTTY || now - saidAt < PROGRESS_EVERY_MS) return;
      saidAt = now;
      process.stderr.write(`\r${figures(soFar)} …`);
    });
    if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
    for (const [key, { reason, files }] of found.damaged) {
      const more = files.length > MOST_FILES_SHOWN ? ` and ${files.length - MOST_FILES_SHOWN} more` : "";
      console.log(`damaged: ${key} (${reason}); files: ${files.slice(0, MOST_FILES_SHOWN).join(", ")}${more}`);
    }
    console.log(`${found.damaged.size === 0 ? "All is well" : "Damage was found"}: ${figures(found)}.`);
    if (found.damaged.size > 0) process.exitCode = DAMAGED;
  } finally {
    await db.close();
    await storage.close();
  }
}, NOT_CHECKED);
