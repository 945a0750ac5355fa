import { expect } from "vitest";

/** Asks again and again until the answer is the one expected, or fails with the last one. */
export async function eventually<T>(ask: () => Promise<T> | T, expected: unknown, withinMs = 15_000): Promise<void> {
  await expect.poll(async () => {
    try {
      return await ask();
    } catch (error) {
      return `failed: ${error instanceof Error ? error.message : String(error)}`;
    }
  }, { timeout: withinMs, interval: 25 }).toEqual(expected);
}
