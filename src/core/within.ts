import { Unavailable, type Dependency } from "./errors.ts";

/** What the work gives, or Unavailable when it takes longer. The work itself goes on; what becomes of it is nobody's concern. */
export async function within<T>(budgetMs: number, dependency: Dependency, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Unavailable(dependency, { cause: `no answer within ${budgetMs} ms` })), budgetMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
