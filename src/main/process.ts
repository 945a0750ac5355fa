import { parseConfig, type Config } from "../core/config.ts";
import { collectOldGarbage } from "../core/garbage.ts";

// The AWS SDK greets every start on Node 20 with eight lines about January 2027. package.json says which Node.js we want.
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED ??= "true";

/** Reads the settings, the only place that does, and runs `main`. What stops it is said in a sentence; the exit code tells. */
export function runProcess(main: (config: Config) => Promise<void>, failureCode = 1): void {
  collectOldGarbage();
  Promise.resolve()
    .then(() => main(parseConfig(process.env)))
    .catch((error: unknown) => {
      process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
      process.exit(failureCode);
    });
}
