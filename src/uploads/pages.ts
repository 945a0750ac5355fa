import { Router } from "express";
import { accountOf } from "../accounts/authenticate.ts";
import type { Files } from "../files/files.ts";
import { allow } from "../http/answer-errors.ts";
import { pageHeaders } from "../http/page-headers.ts";
import { sameOrigin } from "../http/same-origin.ts";
import { Unavailable } from "../core/errors.ts";
import { within } from "../core/within.ts";
import { describeAudit, type AuditReader } from "./audit.ts";
import type { CountsReader } from "./counts.ts";
import type { Door } from "./routes.ts";
import type { StatusReader } from "./status.ts";

export interface PagesSettings {
  door: Door;
  statusOf: StatusReader;
  counts: CountsReader;
  audit: AuditReader;
  files: Files;
  limitBytes: number;
  allowedTypes: readonly string[];
}

const REFRESH_SECONDS = 2;
const RECENT_FILES = 10;
const AUDIT_BUDGET_MS = 1_000; // the page does not wait longer for this line of it

/** Pages of the upload slice. All of them work without JavaScript. */
export function createPagesRouter({ door, statusOf, counts, audit, files, limitBytes, allowedTypes }: PagesSettings): Router {
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
    .get(pageHeaders, async (_req, res) => {
      const [figures, recent, audited] = await Promise.all([counts.counts(), recentFiles(accountOf(res)), auditOrNull()]);
      res.setHeader("Cache-Control", "no-store");
      res.render("dashboard", {
        page: "dashboard", title: "Dashboard", counts: { ...figures, timestamp: figures.timestamp.toISOString() }, recent, audit: audited && describeAudit(audited),
      });
    })
    .all(allow("GET", "HEAD"));

  /** With the database down the page still shows what it can. */
  async function recentFiles(ownerId: string) {
    try {
      const page = await files.list(ownerId, RECENT_FILES);
      return page.files.map((file) => ({ ...file, url: `/api/files/${file.id}` }));
    } catch (error) {
      if (error instanceof Unavailable) return null;
      throw error;
    }
  }

  /** The script asks again for what was not known in time. */
  async function auditOrNull() {
    try {
      return await within(AUDIT_BUDGET_MS, "inbox", audit.latest());
    } catch (error) {
      if (error instanceof Unavailable) return null;
      throw error;
    }
  }

  return router;
}
