/** @tus/server with its file store, as in its README. */
import { FileStore } from "@tus/file-store";
import { Server } from "@tus/server";
import { folder, listen } from "./listen.ts";

const tus = new Server({ path: "/files", datastore: new FileStore({ directory: folder() }) });
listen((req, res) => void tus.handle(req, res));
