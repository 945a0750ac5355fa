import { Router, type Request } from "express";
import type { Clock } from "../../core/clock.ts";
import { Failure } from "../../core/errors.ts";
import { orNull } from "../../core/or-null.ts";
import { allow } from "../../http/answer-errors.ts";
import { letGoOn } from "../../http/expect-continue.ts";
import { pageHeaders } from "../../http/page-headers.ts";
import { readBody } from "../../http/read-body.ts";
import { sameOrigin } from "../../http/same-origin.ts";
import type { Intake } from "../intake.ts";
import { PAGEVIEW } from "../messages.ts";
import { addressOf, countOf, nameOf, rangesOf, type Shown } from "./page-address.ts";
import type { EventDoor } from "../routes.ts";
import { drawSeries } from "./series-chart.ts";
import { snippetsFor } from "./snippets.ts";
import { readPageQuery } from "../stats/stats-query.ts";
import { MOST_SITES, MOST_USER_DAYS, type Stats } from "../stats/stats.ts";
import { isOver } from "../turned-away.ts";
import { zoneTime } from "./zone-time.ts";

export interface AnalyticsPagesSettings {
  stats: Stats;
  intake: Intake;
  door: EventDoor;
  clock: Clock;
}

const TOP_PATHS = 10;
const TOP_TYPES = 10;
const LATEST_EVENTS = 20;
const MOST_HOURLY_DAYS = 2;
const MOST_FORM_BYTES = 16 * 1024; // all its fields in characters of four bytes, percent-encoded
const REFRESH_SECONDS = 5;
const SLOW_REFRESH_SECONDS = 30; // of times that are over, or long: they change little, and cost more to read
const MOST_FAST_DAYS = 31;

/** What analytics events say, for people. The figures and the form work without JavaScript. */
export function createAnalyticsPagesRouter({ stats, intake, door, clock }: AnalyticsPagesSettings): Router {
  const router = Router();

  router.route("/analytics")
    .get(pageHeaders, async (req, res) => {
      const asked = readPageQuery(req.query, stats.today);
      const [{ sites, shown, read }, way] = await Promise.all([readAll(asked), intake.read()]);
      const today = stats.today(shown.days.zone);
      const origin = `${req.protocol}://${req.headers.host ?? "localhost"}`;
      const followsToday = !req.query.from && !req.query.to; // and goes on to tomorrow by itself
      const linked = { ...shown, days: followsToday ? { zone: shown.days.zone } : shown.days };
      const isLive = shown.days.to >= today && countOf(shown.days) <= MOST_FAST_DAYS;
      res.setHeader("Cache-Control", "no-store");
      res.render("analytics", {
        page: "analytics", title: "Analytics", ...shown, siteId: shown.siteId ?? null, read, way, sites, allSites: sites !== null && sites.length < MOST_SITES, today, now: clock.now(),
        ranges: rangesOf(shown, today), isLong: countOf(shown.days) > 1, isRefusing: way.last_refusals !== null && !isOver(way.last_refusals, clock.now()), timeName: nameOf(shown.days, today), isToday: shown.days.to >= today,
        refreshSecondsLive: isLive ? REFRESH_SECONDS : SLOW_REFRESH_SECONDS, sent: req.query.sent === "1", here: addressOf(linked), mostLatest: LATEST_EVENTS,
        typeUrl: (eventType: string) => addressOf({ ...linked, eventType }), siteUrl: (siteId: string) => addressOf({ ...linked, siteId }),
        inZone: (instant: Date) => zoneTime(instant, shown.days.zone), snippets: snippetsFor(origin, shown.siteId ?? "my-site"), pageview: PAGEVIEW,
      });
    })
    .post(pageHeaders, sameOrigin, async (req, res) => {
      letGoOn(req, res);
      const form = await readForm(req);
      await door.takeInput(req, res, form);
      const { tz } = req.query;
      res.redirect(303, `/analytics?${new URLSearchParams({ site_id: form.site_id ?? "", ...(typeof tz === "string" && { tz }), sent: "1" })}`); // so that reloading sends nothing again
    })
    .all(allow("GET", "HEAD", "POST"));

  /** With the database away all of it is null, and the page says so. Where there is one site only, nobody has to choose it. */
  async function readAll(asked: Shown) {
    const sites = await orNull(stats.sites());
    const shown = { ...asked, siteId: asked.siteId ?? (sites?.length === 1 ? sites[0] : undefined) };
    const read = sites === null || shown.siteId === undefined ? null : await readSite(shown.siteId, asked);
    return { sites: shown.siteId !== undefined && read === null ? null : sites, shown, read };
  }

  /** Null: the database is away. In it, null is what it did not say in time, as it may be over many days of many paths. */
  async function readSite(siteId: string, { days, eventType }: Shown) {
    const interval = countOf(days) <= MOST_HOURLY_DAYS ? "hour" as const : "day" as const;
    const [figures, points, counted, latest] = await Promise.all([
      orNull(stats.figures(siteId, days, TOP_PATHS, MOST_USER_DAYS)), orNull(stats.series(siteId, { ...days, eventType, interval })),
      orNull(stats.types(siteId, days)), orNull(stats.latest(siteId, LATEST_EVENTS)),
    ]);
    if (figures === null && points === null && counted === null && latest === null) return null;
    const charted = points && points.reduce((sum, point) => sum + point.events, 0);
    return {
      figures, views: figures?.totalViews ?? (eventType === PAGEVIEW ? charted : null), latest, interval, charted,
      chart: points && drawSeries(points, interval, days.zone, clock.now()),
      events: counted && counted.events, types: counted && counted.types.slice(0, TOP_TYPES), moreTypes: counted ? counted.types.length - TOP_TYPES : 0,
    };
  }

  return router;
}

/** Fields of a form as browsers send it. @throws Failure UNSUPPORTED_MEDIA_TYPE, EVENTS_TOO_LARGE, MALFORMED_REQUEST */
async function readForm(req: Request): Promise<Record<string, string>> {
  if (!/^application\/x-www-form-urlencoded\s*(;|$)/i.test(req.headers["content-type"] ?? "")) {
    throw new Failure("UNSUPPORTED_MEDIA_TYPE", "This takes the page's form. Programs send JSON to /event.");
  }
  const body = await readBody(req, MOST_FORM_BYTES, "EVENTS_TOO_LARGE");
  const form = new URLSearchParams(body.toString());
  return Object.fromEntries(["site_id", "event_type", "path", "user_id"].map((field) => [field, (form.get(field) ?? "").trim()]));
}
