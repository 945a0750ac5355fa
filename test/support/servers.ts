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
};

function required(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run the tests with npm test, which starts the servers they need`);
  return value;
}
