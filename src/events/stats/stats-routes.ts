import { Router, type RequestHandler, type Response } from "express";
import { allow, sendJson } from "../../http/answer-errors.ts";
import type { Intake } from "../intake.ts";
import type { Stats } from "./stats.ts";
import { readLatestQuery, readSeriesQuery, readStatsQuery, readTypesQuery } from "./stats-query.ts";

/** GET /stats and what is beyond the seed's. */
export function createStatsRouter({ stats, intake }: { stats: Stats; intake: Intake }): Router {
  const router = Router();

  router.route("/stats")
    .get((async (req, res) => {
      const { siteId, days, limit } = readStatsQuery(req.query, stats.today);
      const { totalViews, uniqueUsers, topPaths } = await stats.figures(siteId, days, limit);
      answer(res, { site_id: siteId, date: days.from, total_views: totalViews, unique_users: uniqueUsers, top_paths: topPaths });
    }) as RequestHandler)
    .all(allow("GET", "HEAD"));

  router.route("/stats/series")
    .get((async (req, res) => {
      const { siteId, wanted } = readSeriesQuery(req.query, stats.today);
      const { from, to, zone, interval, eventType } = wanted;
      const points = await stats.series(siteId, wanted);
      answer(res, {
        site_id: siteId, event_type: eventType, interval, tz: zone, from, to, total: points.reduce((sum, { events }) => sum + events, 0),
        points: points.map(({ day, beginsAt, events }) => ({ time: beginsAt, ...(interval === "day" && { date: day }), events })),
      });
    }) as RequestHandler)
    .all(allow("GET", "HEAD"));

  router.route("/stats/types")
    .get((async (req, res) => {
      const { siteId, days: { from, to, zone }, days } = readTypesQuery(req.query, stats.today);
      const { types } = await stats.types(siteId, days);
      answer(res, { site_id: siteId, tz: zone, from, to, types: types.map(({ eventType, events }) => ({ event_type: eventType, events })) });
    }) as RequestHandler)
    .all(allow("GET", "HEAD"));

  router.route("/stats/latest")
    .get((async (req, res) => {
      const { siteId, limit } = readLatestQuery(req.query);
      const latest = await stats.latest(siteId, limit);
      answer(res, {
        site_id: siteId,
        events: latest.map(({ id, eventType, path, userId, timestamp }) => ({ id, event_type: eventType, path, user_id: userId, timestamp })),
      });
    }) as RequestHandler)
    .all(allow("GET", "HEAD"));

  router.route("/stats/sites")
    .get((async (_req, res) => answer(res, { sites: await stats.sites() })) as RequestHandler)
    .all(allow("GET", "HEAD"));

  router.route("/stats/intake")
    .get((async (_req, res) => answer(res, await intake.read())) as RequestHandler)
    .all(allow("GET", "HEAD"));

  return router;
}

function answer(res: Response, body: unknown): void {
  res.setHeader("Cache-Control", "no-store");
  sendJson(res, 200, body);
}
