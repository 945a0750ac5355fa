/** How many characters the columns hold. */
export const MOST_CHARACTERS = { site_id: 255, event_type: 255, path: 500, user_id: 255, event_id: 255 } as const;
export type TextField = keyof typeof MOST_CHARACTERS;

/** In a predicate what is wrong with a field's text: "has characters that are no text"; undefined: nothing. Characters are counted as PostgreSQL does, not as UTF-16. */
export function faultOf(field: TextField, text: string): string | undefined {
  const most = MOST_CHARACTERS[field];
  if (text.length > most && [...text].length > most) return `has more than ${most} characters`;
  if (text.includes("\0") || !text.isWellFormed()) return "has characters that are no text";
  return undefined;
}
