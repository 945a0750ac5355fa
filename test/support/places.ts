import {
  CreateBucketCommand, DeleteBucketCommand, DeleteObjectsCommand, GetObjectCommand, ListMultipartUploadsCommand, ListObjectsV2Command, PutObjectCommand, S3Client,
} from "@aws-sdk/client-s3";
import pg from "pg";
import { servers } from "./servers.ts";

/** A database of a test's own. @param server  where; the tests' common server when left out */
export async function createDatabase(name: string, server = servers.pgUri()) {
  const admin = async (statement: string) => {
    const client = new pg.Client({ connectionString: server });
    await client.connect();
    await client.query(statement).finally(() => client.end());
  };
  await admin(`create database ${name}`);
  const uri = new URL(server);
  uri.pathname = `/${name}`;
  return { uri: uri.href, drop: () => admin(`drop database ${name} with (force)`) };
}

/** A bucket of a test's own. */
export async function createBucket(name: string) {
  const { endpoint, region, accessKeyId, secretAccessKey } = servers.s3();
  const client = new S3Client({ endpoint, region, forcePathStyle: true, credentials: { accessKeyId, secretAccessKey }, requestChecksumCalculation: "WHEN_REQUIRED" });
  await client.send(new CreateBucketCommand({ Bucket: name }));
  async function list(prefix = ""): Promise<string[]> {
    const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket: name, Prefix: prefix }));
    return Contents.map(({ Key }) => Key!);
  }
  return {
    name, client, list,
    /** Past the code under test. @throws where there is no such object */
    async read(key: string): Promise<Uint8Array> {
      return (await client.send(new GetObjectCommand({ Bucket: name, Key: key }))).Body!.transformToByteArray();
    },
    async put(key: string, bytes: Uint8Array): Promise<void> {
      await client.send(new PutObjectCommand({ Bucket: name, Key: key, Body: bytes }));
    },
    /** Keys of multipart uploads that were begun and neither completed nor aborted. */
    async unfinished(): Promise<string[]> {
      const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: name }));
      return Uploads.map(({ Key }) => Key!);
    },
    settings: {
      S3_BUCKET: name, S3_ENDPOINT: endpoint, S3_REGION: region, S3_ACCESS_KEY_ID: accessKeyId, S3_SECRET_ACCESS_KEY: secretAccessKey,
      S3_FORCE_PATH_STYLE: "true",
    },
    async drop() {
      for (let keys = await list(); keys.length > 0; keys = await list()) {
        await client.send(new DeleteObjectsCommand({ Bucket: name, Delete: { Objects: keys.map((Key) => ({ Key })) } }));
      }
      await client.send(new DeleteBucketCommand({ Bucket: name }));
      client.destroy();
    },
  };
}
