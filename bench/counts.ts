/** How fast does /api/counts answer when the ledger is large? */
import { onFreshHub, type WorkerTools } from "./worker.ts";

const CLIENTS = [1, 16] as const;
const SECONDS = 3;

export interface CountsCell {
  clients: number;
  rows: number;
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  failures: number;
  reasons: string[];
}

export interface CountsResult {
  rows: number;
  /** What it must not do: `select count(*)` on the same ledger, milliseconds. */
  countingMs: number;
  /** By round; one cell for each number of clients. */
  rounds: CountsCell[][];
}

export async function measureCounts(tools: WorkerTools): Promise<CountsResult> {
  const { options, generator, say } = tools;
  return onFreshHub(tools, async (hub, ledger, folder) => {
    await ledger.fill(options.rows, (done) => say(`${done} ledger rows of ${options.rows}`));
    const countingSince = performance.now();
    const { rows } = await ledger.client.query<{ count: string }>("select count(*) from file_events");
    const countingMs = performance.now() - countingSince;
    if (Number(rows[0]?.count) !== options.rows) throw new Error(`the ledger has ${rows[0]?.count} rows`);

    const web = await hub.startWeb(folder, "counts");
    const rounds: CountsCell[][] = [];
    try {
      for (let round = 1; round <= options.rounds; round++) {
        const cells: CountsCell[] = [];
        for (const clients of CLIENTS) {
          const result = await generator.run({
            port: web.port,
            clients,
            request: { method: "GET", path: "/api/counts", headers: { Accept: "application/json" }, body: "none", sizeBytes: 0 },
            expect: { status: 200, text: `"timescale":${options.rows}` },
            warmUp: { forMs: 500 },
            measure: { forMs: (options.quick ? 0.5 : SECONDS) * 1000 },
          });
          const { perSecond, p50Ms, p99Ms, failures, reasons } = result;
          cells.push({ clients, rows: options.rows, perSecond, p50Ms, p99Ms, failures, reasons });
          say(`round ${round}: ${clients} clients p50 ${p50Ms.toFixed(2)} ms, p99 ${p99Ms.toFixed(2)} ms${failures > 0 ? ` FAILED: ${reasons[0]}` : ""}`);
        }
        rounds.push(cells);
      }
    } finally {
      await web.stop();
    }
    return { rows: options.rows, countingMs, rounds };
  });
}
