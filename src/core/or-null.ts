import { Unavailable } from "./errors.ts";

/**
 * Null where who knows it does not answer, or not in time.
 * @param degraded  gets that one's name, once
 * @throws what is no Unavailable
 */
export async function orNull<T>(asked: Promise<T>, degraded: string[] = []): Promise<T | null> {
  try {
    return await asked;
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    if (!degraded.includes(error.dependency)) degraded.push(error.dependency);
    return null;
  }
}
