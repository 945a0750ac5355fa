import type { Request, Response } from "express";

/** Tells a client that waits to be told to go on with its body. */
export function letGoOn(req: Request, res: Response): void {
  if (req.headers.expect !== undefined && req.httpVersion !== "1.0" && /^100-continue$/i.test(req.headers.expect)) res.writeContinue();
}
