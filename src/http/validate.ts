import type { z } from "zod";
import { Failure } from "../core/errors.ts";

/** What the schema makes of the query. @throws Failure INVALID_QUERY that names the first parameter at fault */
export function parseQuery<Schema extends z.ZodType>(schema: Schema, query: unknown): z.output<Schema> {
  const parsed = schema.safeParse(query);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new Failure("INVALID_QUERY", `${issue.path.join(".")}: ${issue.message}`);
}
