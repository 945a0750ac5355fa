import { Router } from "express";
import { accountOf } from "../accounts/authenticate.ts";
import type { Files, Wanted } from "../files/files.ts";
import { ListQuery } from "../files/routes.ts";
import { allow } from "../http/answer-errors.ts";
import { pageHeaders } from "../http/page-headers.ts";
import { sameOrigin } from "../http/same-origin.ts";
import { parseQuery } from "../http/validate.ts";
import { Unavailable, type Dependency } from "../core/errors.ts";
import type { Live } from "./live/live.ts";
import type { Door } from "./routes.ts";
import type { StatusReader } from "./status.ts";

export interface PagesSettings {
  door: Door;
  statusOf: StatusReader;
  live: Live;
  files: Files;
  limitBytes: number;
  allowedTypes: readonly string[];
}

const REFRESH_SECONDS = 2;
const RECENT_FILES = 10;
const FOUND_FILES = 25;

const DashboardQuery = ListQuery.pick({ cursor: true, q: true }).extend({ status: ListQuery.shape.status.unwrap().default("any") });

/** Pages of the upload slice. All of them work without JavaScript. */
export function createPagesRouter({ door, statusOf, live, files, limitBytes, allowedTypes }: PagesSettings): Router {
  const router = Router();

  router.route("/")
    .get((_req, res) => res.redirect(302, "/upload"))
    .all(allow("GET", "HEAD"));

  router.route("/upload")
    .get(pageHeaders, (req, res) => {
      res.render("upload", {
        page: "upload", title: "Upload", maxUploadBytes: limitBytes, allowedTypes, origin: `${req.protocol}://${req.headers.host ?? "localhost"}`,
      });
    })
    .post(pageHeaders, sameOrigin, async (req, res) => {
      const receipt = await door.takeForm(req, res);
      res.redirect(303, `/upload/${receipt.file_id}`); // so that reloading the receipt does not send the file again
    })
    .all(allow("GET", "HEAD", "POST"));

  router.route("/upload/:id")
    .get(pageHeaders, async (req, res) => {
      const status = await statusOf(accountOf(res), req.params.id);
      const final = status.status === "stored" || status.status === "failed";
      res.setHeader("Cache-Control", "no-store");
      res.render("receipt", {
        page: "upload", title: "Receipt", ...status, downloadUrl: `/api/files/${status.fileId}`,
        statusUrl: `/api/files/${status.fileId}/status`, refreshSeconds: final ? null : REFRESH_SECONDS,
      });
    })
    .all(allow("GET", "HEAD"));

  router.route("/dashboard")
    .get(pageHeaders, async (req, res) => {
      const { q: text = "", status, cursor } = parseQuery(DashboardQuery, req.query);
      const filtered = text !== "" || status !== "any" || cursor !== undefined;
      const [figures, { page, missing }] = await Promise.all([live.latest(), list(accountOf(res), { limit: filtered ? FOUND_FILES : RECENT_FILES, text, status, cursor })]);
      const older = page?.nextCursor && new URLSearchParams({ ...(text && { q: text }), status, cursor: page.nextCursor });
      res.setHeader("Cache-Control", "no-store");
      res.render("dashboard", {
        page: "dashboard", title: "Dashboard", figures: { ...figures, timestamp: figures.timestamp.toISOString() }, audit: figures.audit,
        missing, recent: page && page.files.map((file) => ({ ...file, url: file.status === "stored" ? `/api/files/${file.id}` : `/upload/${file.id}` })),
        filter: { text, status, active: filtered, olderUrl: older ? `/dashboard?${older}#recent` : null },
      });
    })
    .all(allow("GET", "HEAD"));

  /** With the database down the page still shows what it can, and says what is missing. */
  async function list(ownerId: string, wanted: Wanted): Promise<{ page: Awaited<ReturnType<Files["list"]>> | null; missing: Dependency | null }> {
    try {
      return { page: await files.list(ownerId, wanted), missing: null };
    } catch (error) {
      if (error instanceof Unavailable) return { page: null, missing: error.dependency };
      throw error;
    }
  }

  return router;
}
