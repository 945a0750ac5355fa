import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parseConfig, SETTING_NAMES } from "../../src/core/config.ts";

const example = readFileSync(join(import.meta.dirname, "../../.env.example"), "utf8");
const shown = [...example.matchAll(/^#? ?([A-Z][A-Z0-9_]+)=(.*)$/gm)].map(([, name, value]) => [name!, value!] as const);

describe(".env.example", () => {
  test("lists exactly the settings of the schema", () => {
    expect(shown.map(([name]) => name).sort()).toEqual([...SETTING_NAMES].sort());
  });

  test("shows the defaults", () => {
    expect(parseConfig(Object.fromEntries(shown))).toEqual(parseConfig({}));
  });
});

describe("settings", () => {
  const secret = "0123456789abcdef0123456789abcdef";

  test("may have the names of older installations, which give way to ours", () => {
    expect(parseConfig({ FLASK_HOST: "0.0.0.0", FLASK_PORT: "9000", DATABASE_URL: "postgres://db/x" })).toMatchObject({ HOST: "0.0.0.0", PORT: 9000, PG_URI: "postgres://db/x" });
    expect(parseConfig({ FLASK_PORT: "9000", PORT: "9001" }).PORT).toBe(9001);
  });

  test("that are empty count as not set", () => {
    expect(parseConfig({ PORT: "", S3_BUCKET: "" })).toEqual(parseConfig({}));
  });

  test("that are wrong are all named at once", () => {
    const wrong = () => parseConfig({ PORT: "http", REDIS_URL: "localhost", CONSUMER_BATCH_SIZE: "0", ACCESS: "shut" });
    expect(wrong).toThrow(/PORT[^]*REDIS_URL|REDIS_URL[^]*PORT/);
    expect(wrong).toThrow(/CONSUMER_BATCH_SIZE/);
    expect(wrong).toThrow(/ACCESS/);
  });

  test.each([
    ["an unset secret in production", { NODE_ENV: "production" }, "SECRET_KEY"],
    ["an example secret in production", { NODE_ENV: "production", SECRET_KEY: "change-me" }, "SECRET_KEY"],
    ["a short secret in production", { NODE_ENV: "production", SECRET_KEY: "abc" }, "SECRET_KEY"],
    ["S3 without a bucket", { STORAGE_MODE: "s3" }, "S3_BUCKET"],
    ["an inbox on S3 without a bucket", { INBOX: "s3" }, "S3_BUCKET"],
    ["one folder for inbox and storage", { INBOX_DIR: "data/a", STORAGE_DIR: "./data/b/../a/" }, "INBOX_DIR, STORAGE_DIR"],
    ["the storage in the inbox", { INBOX_DIR: "data", STORAGE_DIR: "data/files" }, "INBOX_DIR, STORAGE_DIR"],
    ["the inbox in the storage", { INBOX_DIR: "./data/..names/inbox", STORAGE_DIR: "data/..names" }, "INBOX_DIR, STORAGE_DIR"],
    ["figures of events that go before the events", { EVENT_RETENTION_DAYS: "30", EVENT_ROLLUP_RETENTION_DAYS: "29" }, "EVENT_ROLLUP_RETENTION_DAYS"],
    ["figures of events that go while the events stay", { EVENT_ROLLUP_RETENTION_DAYS: "400" }, "EVENT_ROLLUP_RETENTION_DAYS"],
    ["events of days whose figures are gone", { EVENT_RETENTION_DAYS: "30", EVENT_ROLLUP_RETENTION_DAYS: "60", EVENT_MAX_AGE_DAYS: "61" }, "EVENT_MAX_AGE_DAYS"],
    ["an origin with a path", { EVENT_ORIGINS: "https://a.example/" }, "EVENT_ORIGINS"],
    ["half of a pair of keys", { S3_ACCESS_KEY_ID: "x" }, "S3_SECRET_ACCESS_KEY"],
  ])("refuse %s", (_what, env, name) => {
    expect(() => parseConfig(env)).toThrow(name);
  });

  test("accept production with a real secret", () => {
    expect(parseConfig({ NODE_ENV: "production", SECRET_KEY: secret }).SECRET_KEY).toBe(secret);
  });

  test("name the origins of pages, all or none", () => {
    const origins = (text: string) => parseConfig({ EVENT_ORIGINS: text }).EVENT_ORIGINS;
    expect([origins(""), origins("none"), origins("https://a.example, http://b.example:81")]).toEqual([["*"], [], ["https://a.example", "http://b.example:81"]]);
  });

  test("split lists", () => {
    expect(parseConfig({ ALLOWED_TYPES: " image/png, TEXT/csv ,," }).ALLOWED_TYPES).toEqual(["image/png", "text/csv"]);
  });
});
