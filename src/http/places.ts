export interface Share {
  /** Of places. */
  count: number;
  memoryBytes: number;
}

export type Places = ReturnType<typeof createPlaces>;

/**
 * Places for what may be under way at once, and the memory that it may hold. One address has at most as much of either as is
 * free: the first gets half, the next one half of the rest, so that there is something left for one who has nothing yet.
 * What is the only one is never too large for the memory.
 */
export function createPlaces(most: Share) {
  const all: Share = { count: 0, memoryBytes: 0 };
  const addresses = new Map<string, Share>();

  /** Whose there are too many of for one more: everybody's, or this address's own. Undefined: there is a place. */
  function takenBy(address: string, needsBytes = 0): "all" | "address" | undefined {
    if (!fits(needsBytes, all, most)) return "all";
    if (!fits(needsBytes, ownOf(address), leftFor(needsBytes))) return "address";
    return undefined;
  }

  /** Takes a place, whether there is one or not. @returns what gives it back; twice is no harm */
  function take(address: string, needsBytes = 0): () => void {
    const own = ownOf(address);
    addresses.set(address, own);
    add(all, 1, needsBytes);
    add(own, 1, needsBytes);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      add(all, -1, -needsBytes);
      add(own, -1, -needsBytes);
      if (own.count === 0) addresses.delete(address);
    };
  }

  function ownOf(address: string): Share {
    return addresses.get(address) ?? { count: 0, memoryBytes: 0 };
  }

  /** What one address may have, so that it has no more than is free then. */
  function leftFor(needsBytes: number): Share {
    return { count: most.count - all.count, memoryBytes: most.memoryBytes - all.memoryBytes - needsBytes };
  }

  return { takenBy, take, taken: (): Readonly<Share> => all };
}

function fits(needsBytes: number, taken: Share, most: Share): boolean {
  return taken.count === 0 || (taken.count < most.count && taken.memoryBytes + needsBytes <= most.memoryBytes);
}

function add(share: Share, count: number, memoryBytes: number): void {
  share.count += count;
  share.memoryBytes += memoryBytes;
}
