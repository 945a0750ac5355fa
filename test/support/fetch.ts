/** The platform's fetch, whose JSON a test looks into without saying its type first. */
export const fetch = globalThis.fetch as unknown as (url: string | URL, init?: RequestInit) => Promise<Answer>;

export interface Answer extends Omit<Response, "json"> {
  // oxlint-disable-next-line no-explicit-any
  json(): Promise<any>;
}
