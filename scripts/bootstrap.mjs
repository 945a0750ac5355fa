/**
 * What has to be true before compiled code can run on a fresh clone: a new enough Node, the packages, a build.
 * Plain JavaScript without dependencies, because nothing else is there yet. Does nothing when nothing changed.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { lookup } from "node:dns/promises";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** @typedef {"src" | "scripts"} Part  what tsc builds: the product, or these scripts */

const OLDEST_NODE = [20, 19];
const PROJECTS = { src: "tsconfig.json", scripts: "tsconfig.scripts.json" };

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/**
 * @param {Part[]} parts  what has to be built
 */
export async function prepare(parts) {
  checkNode();
  const release = await takeTurn();
  try {
    await installPackages();
    for (const part of parts) build(part);
  } finally {
    release();
  }
}

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  const [oldestMajor = 0, oldestMinor = 0] = OLDEST_NODE;
  if (major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)) return;
  fail(`ConnectStorm needs Node.js ${OLDEST_NODE.join(".")} or newer; this is ${process.versions.node}. See https://nodejs.org for a newer one.`);
}

/** Two commands started together on a fresh clone must not install into the same folder at once. */
async function takeTurn() {
  const lock = join(root, ".data", "set-up.lock");
  mkdirSync(dirname(lock), { recursive: true });
  for (let waiting = false; ; waiting = true) {
    try {
      writeFileSync(lock, String(process.pid), { flag: "wx" });
      return () => rmSync(lock, { force: true });
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
      const owner = Number(existsSync(lock) ? readFileSync(lock, "utf8") : 0);
      if (owner && !isSettingUp(owner)) {
        rmSync(lock, { force: true });
        continue;
      }
      if (owner && !waiting) console.error(`• Another set-up is under way here (pid ${owner}); waiting for it …`);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

/** The pid alone proves nothing: it may have been given to another program, or be that of a zombie. */
function isSettingUp(pid) {
  try {
    if (process.platform === "linux") return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("scripts/");
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

async function installPackages() {
  if (packagesAgree()) return;
  const startedAt = Date.now();
  console.error("• Installing npm packages …");
  const registry = await findUnreachableRegistry();
  // Without a network npm would try every package again and again; its cache may have them all.
  const reach = registry ? ["--offline"] : [];
  let npm = runNpm(["ci", ...reach]);
  // A lock file written where some other platforms' packages could not be seen lacks those optional entries, and
  // `npm ci` then refuses it. `npm install` takes the same versions from it and leaves it as it is.
  if (npm.status !== 0 && /EUSAGE/.test(npm.stderr)) npm = runNpm(["install", "--no-save", ...reach]);
  if (npm.status !== 0) {
    const reason = npm.error?.message ?? `${npm.stderr}${npm.stdout}`.trim().split("\n").slice(0, 8).join("\n");
    fail(`The npm packages that package-lock.json lists are not installed, and npm could not install them.\n${
      registry ? `The registry ${registry} cannot be found: is there a network? ` : ""}npm said:\n\n${reason}\n\n`
      + "Connect this machine and run the command again; or let npm use a registry you can reach (npm config set registry <address>);\n"
      + "or run \"npm ci\" in this folder on a machine with the same system and processor and copy node_modules here.");
  }
  console.error(`✔ npm packages installed (${seconds(startedAt)})`);
}

/** @returns the registry's host when its name cannot be looked up, unless a proxy does that for us */
async function findUnreachableRegistry() {
  const asked = runNpm(["config", "get", "registry", "proxy", "https-proxy"]).stdout ?? "";
  const setting = (name) => new RegExp(`^${name}=(.*)$`, "m").exec(asked)?.[1]?.trim();
  const address = setting("registry");
  if (!address || ["proxy", "https-proxy"].some((name) => !["null", "", undefined].includes(setting(name)))) return undefined;
  const { hostname } = new URL(address);
  return lookup(hostname).then(() => undefined, () => hostname);
}

function runNpm(args) {
  // Development packages include the compiler, which even a production host needs when it starts from source.
  const always = ["--include=dev", "--include=optional", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error",
    // npm waits 10 s and 60 s between tries; on a bad network that is a long silence.
    "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"];
  return spawnSync("npm", [...args, ...always], { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** npm writes down what it installed; that is compared with what the lock file wants. */
function packagesAgree() {
  try {
    const wanted = readPackages("package-lock.json"), installed = readPackages("node_modules/.package-lock.json");
    return Object.entries(wanted).every(([path, { version, optional }]) =>
      path === "" || (installed[path] ? installed[path].version === version : optional === true));
  } catch {
    return false;
  }
}

function readPackages(file) {
  return JSON.parse(readFileSync(join(root, file), "utf8")).packages;
}

/** @param {Part} part */
function build(part) {
  const project = PROJECTS[part];
  const stamp = join(root, "dist", `.built-${part}`);
  const sources = hashSources(part, ["tsconfig.json", project]);
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === sources) return;
  const startedAt = Date.now();
  const compiler = spawnSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", project], {
    cwd: root, encoding: "utf8",
  });
  if (compiler.status !== 0) fail(`Building ${part}/ failed:\n\n${compiler.stdout}${compiler.stderr}`);
  writeFileSync(stamp, sources);
  console.error(`✔ Built ${part}/ (${seconds(startedAt)})`);
}

function hashSources(part, configurations) {
  const hash = createHash("sha256");
  const files = readdirSync(join(root, part), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts")).sort().map((name) => join(part, name));
  for (const file of [...configurations, ...files]) hash.update(`${file}\0`).update(readFileSync(join(root, file)));
  return hash.digest("hex");
}

function seconds(startedAt) {
  return `${((Date.now() - startedAt) / 1000).toFixed(1)} s`;
}

function fail(message) {
  console.error(`\n${message}`);
  process.exit(1);
}
