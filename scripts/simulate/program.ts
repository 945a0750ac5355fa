/** The process: node dist/scripts/simulate/program.js [options]. `npm run simulate` builds it first. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { SimulationSettings } from "./options.ts";
import { MISSED, runSimulation } from "./run.ts";

const dist = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const root = dirname(dist);

process.exitCode = await runSimulation(root, process.argv.slice(2), await settingsReader()).catch((error: Error) => {
  console.error(`\n✗ ${error.message}`);
  return MISSED;
});

/** The schema is the site's; the product and the scripts are built apart, and meet in dist/. */
async function settingsReader(): Promise<() => SimulationSettings> {
  const { parseSimulationConfig } = (await import(join(dist, "core/config.js"))) as { parseSimulationConfig(env: NodeJS.ProcessEnv): SimulationSettings };
  return () => {
    if (existsSync(join(root, ".env"))) process.loadEnvFile(join(root, ".env"));
    return parseSimulationConfig(process.env);
  };
}
