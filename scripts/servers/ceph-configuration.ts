/** The settings of a Ceph made of one monitor, one in-memory store and one gateway. */
import { join } from "node:path";

export interface CephLayout {
  /** Holds keys, the monitor's data, logs; thrown away with the servers. */
  folder: string;
  /** Where the packages' shared libraries are. */
  libraries: string;
  clusterId: string;
  gatewayPort: number;
  monitorPort: number;
}

/** Large enough for a multipart upload of 1 GiB, its copy, and the rest of a test run. */
const STORE_BYTES = 4 * 1024 ** 3;

export function formatCephConfiguration({ folder, libraries, clusterId, gatewayPort, monitorPort }: CephLayout): string {
  const run = join(folder, "run");
  return `[global]
fsid = ${clusterId}
mon host = [v2:127.0.0.1:${monitorPort}/0]
ms bind ipv6 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = ${join(folder, "keyring")}
run dir = ${run}
crash dir = ${run}
log file = ${join(folder, "log")}/$name.log
admin socket = ${run}/$name.asok
pid file =
erasure code dir = ${join(libraries, "ceph/erasure-code")}
plugin dir = ${join(libraries, "ceph")}
osd class dir = ${join(libraries, "rados-classes")}
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon max pg per osd = 10000
mon data avail crit = 1
paxos propose interval = 0.02
paxos min wait = 0.01
mon cluster log to file = false
mon tick interval = 1
[mon.a]
mon data = ${join(folder, "mon")}
[osd.0]
osd data = ${join(folder, "osd")}
osd objectstore = memstore
memstore device bytes = ${STORE_BYTES}
osd op num shards = 1
osd memory target = 939524096
[client.rgw]
rgw data = ${folder}
rgw frontends = beast endpoint=127.0.0.1:${gatewayPort} tcp_nodelay=1
rgw enable usage log = false
rgw enable ops log = false
rgw thread pool size = 32
rgw run sync thread = false
`;
}
