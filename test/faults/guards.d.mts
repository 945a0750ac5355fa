interface Change {
  file: string;
  from: string;
  to: string;
}

export const GUARDS: readonly (Change & {
  guard: string;
  also?: Change;
  /** File, and a part of the test's name. */
  test: [file: string, name: string];
})[];
