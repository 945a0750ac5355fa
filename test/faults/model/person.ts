import { removeSettled } from "./worker.ts";
import { unlessUnavailable, type Steps, type World } from "./world.ts";

/** Somebody decides about a dead letter: src/uploads/dead-letters/dead-letters.ts, a round trip a step. */

export type Decision = "retry" | "discard";

/** @returns whether there was an answer: 503 is none, and whoever asked asks again */
export function* decide(world: World, decision: Decision, id: string): Steps<boolean> {
  try {
    yield* decision === "retry" ? retry(world, id) : discard(world, id);
    return true;
  } catch (error) {
    return unlessUnavailable(error, false);
  }
}

function* retry(world: World, id: string): Steps<void> {
  const raised = yield* world.holding(id, function* () {
    const manifest = yield* world.call("inbox", () => world.inbox.manifests.get(id));
    const retriable = manifest && (manifest.blobKey === null || (yield* world.call("inbox", () => world.inbox.blobs.has(manifest.blobKey!))));
    return () => {
      if (!retriable && world.protocol.retriedWithBytes) return undefined;
      world.attempts.delete(id);
      world.dead.delete(id);
      return { acceptance: manifest?.acceptance };
    };
  });
  if (!raised) return;
  yield "dead-letters-raised";
  try {
    yield* world.call("redis", () => world.append(id, raised.acceptance));
  } catch (error) {
    unlessUnavailable(error, undefined);
  }
}

function* discard(world: World, id: string): Steps<void> {
  yield* world.holding(id, function* (letter) {
    const manifest = yield* world.call("inbox", () => world.inbox.manifests.get(id));
    const acceptance = (manifest ?? letter.described)?.acceptance;
    if (acceptance !== undefined) world.goingAway.add(acceptance);
    if (manifest) yield* removeSettled(world, [manifest]);
    yield "bytes-discarded";
    return () => {
      if (acceptance !== undefined) world.discarded.add(acceptance);
      world.attempts.delete(id);
      world.dead.delete(id);
    };
  });
  yield "dead-letter-discarded";
}
