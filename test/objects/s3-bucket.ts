import {
  CreateBucketCommand,
  DeleteBucketCommand,
  ListMultipartUploadsCommand,
  S3Client,
} from "@aws-sdk/client-s3";
import { randomUUID } from "node:crypto";
import { openS3Store, type S3Settings } from "../../src/objects/s3.ts";
import { servers } from "../support/servers.ts";

export const S3_MISSING = process.env["TEST_S3_ENDPOINT"] || process.env["CI"] === "true" ? false : "TEST_S3_ENDPOINT is not set";

/** A new bucket on the real server, and the settings to open it. */
export async function openBucket(settings: Partial<S3Settings> = {}) {
  const s3 = servers.s3();
  const bucket = `test-${randomUUID()}`;
  const { accessKeyId, secretAccessKey, endpoint, region } = s3;
  const client = new S3Client({ endpoint, region, forcePathStyle: true, credentials: { accessKeyId, secretAccessKey } });
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  const connection: S3Settings = { dependency: "storage", bucket, ...s3, forcePathStyle: true, ...settings };

  async function leftovers(): Promise<string[]> {
    const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
    return Uploads.map(({ Key }) => Key ?? "");
  }

  async function close(): Promise<void> {
    const store = openS3Store({ ...connection, prefix: "" });
    for (let page = await store.list("", { limit: 1_000 }); page.length > 0; page = await store.list("", { limit: 1_000 })) {
      await store.remove(page.map(({ key }) => key));
    }
    await store.close();
    await client.send(new DeleteBucketCommand({ Bucket: bucket }));
    client.destroy();
  }

  return { connection, client, leftovers, close };
}
