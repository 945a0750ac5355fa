import { openDiskStore, type DiskSettings } from "./disk.ts";
import type { ObjectStore } from "./object-store.ts";
import type { S3Settings } from "./s3.ts";

export type ObjectStoreSettings = ({ mode: "disk" } & DiskSettings) | ({ mode: "s3" } & S3Settings);

/** @throws Unavailable when the folder of a disk store cannot be used; a bucket is first asked by `ping` */
export async function openObjectStore(settings: ObjectStoreSettings): Promise<ObjectStore> {
  if (settings.mode === "disk") return openDiskStore(settings);
  const { openS3Store } = await import("./s3.ts"); // the SDK takes 0.15 s and 20 MiB, which those on a disk need not pay
  return openS3Store(settings);
}
