import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { parseConfig, SETTING_NAMES } from "../../src/core/config.ts";

const ROOT = join(import.meta.dirname, "../..");

interface Variable {
  key: string;
  value?: string;
  sync?: boolean;
  generateValue?: boolean;
  fromService?: { type: string; name: string; property?: string; envVarKey?: string };
  fromDatabase?: { name: string; property: string };
}

interface Service {
  type: string;
  name: string;
  buildCommand?: string;
  startCommand?: string;
  preDeployCommand?: string;
  healthCheckPath?: string;
  maxmemoryPolicy?: string;
  ipAllowList?: unknown[];
  envVars?: Variable[];
}

const blueprint: { services: Service[]; databases: { name: string; ipAllowList: unknown[] }[] } = parse(readFileSync(join(ROOT, "render.yaml"), "utf8"));
const serviceOf = (type: string) => blueprint.services.find((service) => service.type === type)!;
const processes = blueprint.services.filter(({ envVars }) => envVars);

describe("render.yaml", () => {
  test("has web, worker, Key Value that evicts nothing, and PostgreSQL, the last two not public", () => {
    expect(blueprint.services.map(({ type }) => type).sort()).toEqual(["keyvalue", "web", "worker"]);
    expect(serviceOf("keyvalue")).toMatchObject({ maxmemoryPolicy: "noeviction", ipAllowList: [] });
    expect(blueprint.databases).toEqual([expect.objectContaining({ ipAllowList: [] })]);
  });

  test("names settings that exist, each with one source", () => {
    for (const { name, envVars = [] } of processes) {
      for (const { key, ...source } of envVars) {
        expect(SETTING_NAMES, `${name} sets ${key}`).toContain(key);
        expect(Object.keys(source), `${name} ${key}`).toHaveLength(1);
      }
      expect(new Set(envVars.map(({ key }) => key)).size).toBe(envVars.length);
    }
  });

  test("refers to what is in it", () => {
    for (const { envVars = [] } of processes) {
      for (const { key, fromService, fromDatabase } of envVars) {
        if (fromDatabase) expect(blueprint.databases.map(({ name }) => name), key).toContain(fromDatabase.name);
        if (!fromService) continue;
        const source = blueprint.services.find(({ name, type }) => name === fromService.name && type === fromService.type);
        expect(source, `${key} comes from ${fromService.name}`).toBeDefined();
        if (fromService.envVarKey) expect(source!.envVars!.map((variable) => variable.key), key).toContain(fromService.envVarKey);
      }
    }
  });

  test("gives both processes settings that are accepted, and the same ones where they must agree", () => {
    const filled = processes.map(({ envVars = [] }) => parseConfig(Object.fromEntries(envVars.map((variable) => [variable.key, valueOf(variable)]))));
    const [web, worker] = filled;
    expect(web).toMatchObject({ NODE_ENV: "production", ACCESS: "open", HOST: "0.0.0.0", INBOX: "s3", STORAGE_MODE: "s3" });
    for (const key of ["REDIS_URL", "PG_URI", "INBOX", "STORAGE_MODE", "S3_BUCKET", "S3_REGION", "S3_ENDPOINT", "REDIS_PREFIX", "SMALL_OBJECT_BYTES"] as const) {
      expect(worker![key], key).toEqual(web![key]);
    }
  });

  test("limits what one address may send to a site that is public", () => {
    const web = Object.fromEntries(serviceOf("web").envVars!.map(({ key, value }) => [key, value]));
    expect(Number(web["ADDRESS_UPLOADS_PER_MINUTE"])).toBeGreaterThan(0);
    expect(Number(web["MAX_BACKLOG_BYTES"])).toBeGreaterThan(0);
    expect(web["TRUST_PROXY"]).toBe("1"); // or all visitors were one address
  });

  test("runs scripts and files that exist after a build", () => {
    const scripts = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")).scripts;
    const commands = processes.flatMap(({ buildCommand, startCommand, preDeployCommand }) => [buildCommand, startCommand, preDeployCommand]).join("\n")
      + readFileSync(join(ROOT, "render.yaml"), "utf8");
    for (const [, script] of commands.matchAll(/npm run ([\w-]+)/g)) expect(Object.keys(scripts)).toContain(script);
    const built = [...commands.matchAll(/node dist\/([\w/-]+)\.js/g)].map(([, path]) => `src/${path}.ts`);
    expect(new Set(built)).toEqual(new Set(["src/main/web.ts", "src/main/worker.ts", "src/main/migrate.ts"]));
    for (const path of built) expect(existsSync(join(ROOT, path)), path).toBe(true);
    expect(serviceOf("web").healthCheckPath).toBe("/health");
  });
});

/** What Render would fill in. A generated value is 32 random bytes in base64. */
function valueOf({ key, value, generateValue, fromService, fromDatabase }: Variable): string {
  if (value !== undefined) return String(value);
  if (fromDatabase) return "postgresql://user:password@host/connectstorm";
  if (fromService?.property) return "redis://host:6379";
  if (generateValue || key === "SECRET_KEY") return Buffer.alloc(32, 7).toString("base64");
  return key === "S3_ENDPOINT" ? "https://account.r2.cloudflarestorage.com" : "entered-by-hand";
}
