/** The same with the least that keeps it: one stream entry an event, awaited, many of them in one write to Redis (autopipelining). */
import { Redis } from "ioredis";
import { listenForEvents } from "./listen-for-events.ts";

const redis = new Redis(process.env["REDIS_URL"] ?? "", { enableAutoPipelining: true, protocol: 2 });
const stream = process.env["STREAM"] ?? "";

listenForEvents(async (event) => {
  await redis.xadd(stream, "*", "body", JSON.stringify(event));
});
