import { openDiskStore, type DiskSettings } from "./disk.ts";
import type { ObjectStore } from "./object-store.ts";
import { openS3Store, type S3Settings } from "./s3.ts";

export type ObjectStoreSettings = ({ mode: "disk" } & DiskSettings) | ({ mode: "s3" } & S3Settings);

/** @throws Unavailable when the folder of a disk store cannot be used; a bucket is first asked by `ping` */
export async function openObjectStore(settings: ObjectStoreSettings): Promise<ObjectStore> {
  return settings.mode === "disk" ? openDiskStore(settings) : openS3Store(settings);
}
