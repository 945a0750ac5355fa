/** How many cases docs/reliability.md promises of `npm test`. */
export const PROMISED = { forms: 1_000, bodies: 250, plans: 5_000 };

/** How many are tried: the soak asks for more. */
export const FORMS = Number(process.env.FUZZ_RUNS ?? PROMISED.forms);
export const BODIES = Math.ceil((FORMS * PROMISED.bodies) / PROMISED.forms);
export const PLANS = Number(process.env.MODEL_RUNS ?? PROMISED.plans);
