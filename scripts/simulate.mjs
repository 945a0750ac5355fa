/** `npm run simulate -- [options]`: a crowd uses a running site; `--help` tells all. See docs/simulate.md. */
import { prepare } from "./bootstrap.mjs";

await prepare(["src", "scripts"]);
await import("../dist/scripts/simulate/program.js");
