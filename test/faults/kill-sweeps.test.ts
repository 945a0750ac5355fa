import { sweepKills } from "./kill-sweeps.ts";

sweepKills({
  settings: {},
  times: process.env.FAULTS === "long" ? [1, 2, 3, 5, 8, 13] : [1, 3],
  sizes: [900, 300_000],
});
