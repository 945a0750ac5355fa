import type { RequestHandler, Response } from "express";
import { PUBLIC_ACCOUNT } from "./accounts.ts";

/** Who is asking. With open access that is the public account, always. */
export const authenticate: RequestHandler = (_req, res, next) => {
  res.locals.accountId = PUBLIC_ACCOUNT;
  next();
};

export function accountOf(res: Response): string {
  return res.locals.accountId;
}
