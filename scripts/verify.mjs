/** `npm run verify`: builds what is missing, and reads every stored object of this installation. See docs/operations.md. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { prepare, root } from "./bootstrap.mjs";

await prepare(["src"]);
process.chdir(root); // where `npm start` keeps its data
// What the environment says counts; then .env; then where the servers are that `npm start` brought.
for (const file of [".env", join(".data", "run", "addresses.env")]) {
  for (const [name, value] of Object.entries(process.env)) if (value === "") delete process.env[name];
  if (existsSync(file)) process.loadEnvFile(file);
}
if (!process.env.PG_URI && !process.env.DATABASE_URL) {
  console.error("• ConnectStorm does not run here, and PG_URI is not set: trying PostgreSQL's usual address. (npm start, or PG_URI=…)");
}
await import("../dist/main/verify.js");
