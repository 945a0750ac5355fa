/** `npm start`: sets up what is missing and runs ConnectStorm until Ctrl-C. */
import { prepare, root } from "./bootstrap.mjs";

await prepare(["src", "scripts"]);
const { start } = await import("../dist/scripts/start.js");
process.exitCode = await start(root);
