import { isPoison, type Sha, type World } from "./world.ts";

/** What the clients wrote down. */
export interface Notebook {
  /** Every 202: the id, the bytes that were sent, and the hash that the receipt named. */
  promised: { id: string; sha: Sha; receipt: Sha; acceptance: number }[];
  /** Every 422. */
  refused: { id: string; sha: Sha; blobKey: string }[];
}

/** The one oracle, asked when everything is healed and quiet. @returns what is wrong */
export function complaints(world: World, { promised, refused }: Notebook): string[] {
  const wrong: string[] = [];
  const check = (right: boolean, what: string) => right || wrong.push(what);
  const { files, ledger, dead, storage, attempts } = world;
  const { manifests, blobs, files: loose } = world.inbox;
  const bytesKept = (id: string, sha: Sha) => {
    const manifest = manifests.get(id);
    return manifest?.sha === sha && (manifest.blobKey === null || blobs.get(manifest.blobKey)?.content !== undefined);
  };
  const sentUnder = (id: string) => new Set([...promised.filter((one) => one.id === id).map(({ sha }) => sha), ...[...world.committed].filter((one) => one.startsWith(`${id} `)).map((one) => one.split(" ")[1])]);

  for (const { id, sha, receipt, acceptance } of promised) {
    check(receipt === sha, `the receipt of ${id} names ${receipt}, not ${sha}`);
    // Its bytes are gone by somebody's will; whether that is written down, or the same id brought others before it was.
    if (world.goingAway.has(acceptance)) continue;
    const isFile = files.get(id) === sha;
    const isDead = dead.has(id) && bytesKept(id, sha);
    check(isFile !== isDead, `${id} (${sha}), which was promised, is ${isFile ? "a file and a dead letter" : "lost"}`);
    if (isDead) check(isPoison(sha) || sentUnder(id).size > 1 || world.rotten.has(id), `${id} (${sha}) is a dead letter without a reason: ${dead.get(id)!.code}`);
  }
  for (const id of world.swallowed) check(false, `the good bytes of ${id} were thrown away for a damaged object`);
  for (const acceptance of world.discarded) {
    check(![...world.settled.values()].includes(acceptance), `acceptance ${acceptance} was discarded and is a file`);
    check(![...dead.keys()].some((id) => manifests.get(id)?.acceptance === acceptance), `acceptance ${acceptance} was discarded and is a dead letter`);
  }
  for (const [id, sha] of files) {
    check(ledger.filter((row) => row === id).length === 1, `the ledger has ${id} ${ledger.filter((row) => row === id).length} times`);
    check(storage.get(sha) === sha || world.rottenObjects.has(sha), `storage has ${storage.get(sha)} under the hash ${sha}`);
    check(!attempts.has(id) || dead.has(id) || sentUnder(id).size > 1, `${id} is a file and still counted as failing`);
  }
  check(ledger.every((id) => files.has(id)), "the ledger has what is no file");
  for (const [id, { code }] of dead) {
    check(manifests.has(id), `the dead letter ${id} (${code}) has no manifest`);
    check(!files.has(id) || files.get(id) !== manifests.get(id)?.sha, `${id} is a dead letter (${code}) and stored`);
  }
  for (const { id, sha, blobKey } of refused) {
    check(!blobs.has(blobKey), `the bytes of a refused upload were kept: ${blobKey}`);
    check(world.committed.has(`${id} ${sha}`) || (files.get(id) !== sha && manifests.get(id)?.sha !== sha), `${id} has the bytes ${sha} that were refused`);
  }
  check([...manifests.keys()].every((id) => dead.has(id)), "the inbox holds more than dead letters");
  const named = new Set([...manifests.values()].map((manifest) => manifest.blobKey));
  check([...blobs.keys()].every((key) => named.has(key)), "a blob without a manifest was left");
  check(loose.size === 0, "a file without a record was left");
  check(world.redis().stream.length === 0 && (world.redis().group?.pending.size ?? 0) === 0, "the stream is not empty");
  return wrong;
}
