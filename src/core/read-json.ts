import type { z } from "zod";

/** What a process of ours wrote, or somebody else. Undefined: it is no JSON, or none of that shape. */
export function readJson<Schema extends z.ZodType>(schema: Schema, text: string): z.output<Schema> | undefined {
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    return undefined;
  }
  return schema.safeParse(content).data;
}
