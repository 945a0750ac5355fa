import type { Server } from "node:http";
import type { Socket } from "node:net";

const known = new WeakMap<Server, Set<Socket>>();

/** The connections that a server has, from the first time on that they are asked for: before it listens. */
export function connectionsOf(server: Server): ReadonlySet<Socket> {
  const found = known.get(server);
  if (found) return found;
  const connections = new Set<Socket>();
  known.set(server, connections);
  server.on("connection", (socket: Socket) => {
    connections.add(socket);
    socket.once("close", () => connections.delete(socket));
  });
  return connections;
}

/** Closes connections on which nothing was ever asked, as browsers open some in advance: to Node they are not idle, but new. */
export function closeUnused(server: Server): void {
  for (const socket of connectionsOf(server)) if (socket.bytesRead === 0) socket.destroy();
}
