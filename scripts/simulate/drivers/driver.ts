import type { ChosenFile } from "../file-choice.ts";
import type { Broken } from "../receipts.ts";

/** One person, or one client: what it opened stays open from visit to visit. */
export interface Session {
  /**
   * Hands the files in. What goes wrong is counted in the tally, not thrown.
   * @param dueMs  when the visit should have begun, on performance.now()'s clock; its first step is measured from there
   */
  visit(files: readonly ChosenFile[], dueMs: number): Promise<void>;
  close(): Promise<void>;
}

export interface Driver {
  openSession(user: string, random: () => number): Session;
  /** Files a visit may hand in at once. */
  mostFiles: number;
  /** Pictures of what was found out after its owner had left, where there is something to be seen. */
  photographReceipts?(broken: readonly Broken[]): Promise<void>;
  /** What a reader of the report has to know of it, such as the browser's version and memory. */
  facts(): Promise<[name: string, value: string][]>;
  close(): Promise<void>;
}
