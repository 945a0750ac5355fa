/** The real servers that `npm test` starts; a missing one fails the tests that need it. */
export const servers = {
  redisUrl: () => required("TEST_REDIS_URL"),
  pgUri: () => required("TEST_PG_URI"),
  s3: () => ({
    endpoint: required("TEST_S3_ENDPOINT"),
    region: required("TEST_S3_REGION"),
    accessKeyId: required("TEST_S3_ACCESS_KEY_ID"),
    secretAccessKey: required("TEST_S3_SECRET_ACCESS_KEY"),
  }),
  chromium: () => required("TEST_CHROMIUM"),
  /** The path of strace, or of what starts it. */
  strace: () => required("TEST_STRACE"),
  /** The path of libfaketime's library. */
  faketime: () => required("TEST_FAKETIME"),
};

/** Why tests that need it are skipped here, for describe.skipIf; false where they are to run, or to fail for lack of it. */
export function missingOnLinux(name: "TEST_STRACE" | "TEST_FAKETIME"): string | false {
  if (process.platform !== "linux") return "needs Linux";
  return process.env[name] || process.env["CI"] === "true" ? false : `${name} is not set`;
}

function required(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run the tests with npm test, which starts the servers they need`);
  return value;
}
