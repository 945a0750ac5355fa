/** What a user would write: Express and multer's disk storage, as in multer's README. No hash, no fsync, no queue. */
import express from "express";
import multer from "multer";
import { folder, listen } from "./listen.ts";

const app = express();
const upload = multer({ dest: folder() });

app.post("/upload", upload.single("file"), (req, res) => {
  res.json({ size: req.file?.size, name: req.file?.originalname });
});
listen(app);
