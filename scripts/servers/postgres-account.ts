/**
 * Postgres refuses to run as root. When we are root it runs as `postgres` or `nobody`, and where that account may not
 * enter the folders (a checkout under /root), it is lent the one right it lacks.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { isRoot } from "./folders.ts";

export interface Account {
  uid: number;
  gid: number;
  /** Capabilities lent to the processes, in setpriv's spelling; none where plain rights are enough. */
  capabilities: string[];
}

const LOANS = [[], ["dac_override"], ["dac_override", "dac_read_search"]];

/**
 * The account Postgres runs under: undefined means ours.
 * @param needed  folders it has to enter
 * @throws Error when no account can enter them
 */
export function chooseAccount(needed: string[]): Account | undefined {
  const owner = findOwner();
  if (!owner) return undefined;
  for (const capabilities of LOANS) {
    const account = { uid: owner.uid, gid: owner.gid, capabilities };
    if (needed.every((folder) => canEnter(account, folder))) return account;
  }
  throw new Error(`The ${owner.name} account, which Postgres has to run under, cannot enter ${needed.join(" or ")}.`);
}

/** True when the account needs no loan to enter the folder: initdb asks access(2) about its programs, which ignores loans. */
export function isOpenToAccount(folder: string): boolean {
  const owner = findOwner();
  return !owner || canEnter({ uid: owner.uid, gid: owner.gid, capabilities: [] }, folder);
}

/** Rewrites a command so that it runs under the account. */
export function runUnder(account: Account | undefined, command: string, args: string[]): [string, string[]] {
  if (!account) return [command, args];
  const lent = account.capabilities.map((name) => `+${name}`).join(",");
  return ["setpriv", [
    `--reuid=${account.uid}`, `--regid=${account.gid}`, "--clear-groups",
    ...(lent ? [`--inh-caps=${lent}`, `--ambient-caps=${lent}`] : []), "--", command, ...args,
  ]];
}

function findOwner(): { name: string; uid: number; gid: number } | undefined {
  if (!isRoot()) return undefined;
  const accounts = readAccounts();
  const owner = accounts.find(({ name }) => name === "postgres") ?? accounts.find(({ name }) => name === "nobody");
  if (!owner) throw new Error("Postgres does not run as root, and this machine has neither a postgres nor a nobody account.");
  return owner;
}

function canEnter(account: Account, folder: string): boolean {
  // A real change of folder: access(2), which `test -x` asks, overlooks lent capabilities.
  const [command, args] = runUnder(account, "sh", ["-c", 'cd -- "$1" && ls . > /dev/null', "sh", folder]);
  return spawnSync(command, args, { stdio: "ignore" }).status === 0;
}

function readAccounts(): { name: string; uid: number; gid: number }[] {
  return readFileSync("/etc/passwd", "utf8").trim().split("\n").map((line) => {
    const [name = "", , uid, gid] = line.split(":");
    return { name, uid: Number(uid), gid: Number(gid) };
  });
}
