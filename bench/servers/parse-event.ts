/** The limit of an event a request: raw node:http, JSON.parse, an answer. Nothing is kept. */
import { listenForEvents } from "./listen-for-events.ts";

listenForEvents(async () => {});
