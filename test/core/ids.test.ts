import { expect, test } from "vitest";
import { derivedId, isId, newId } from "../../src/core/ids.ts";

test("ids are unique, of the form of a UUID, and in the order they were made", () => {
  const ids = Array.from({ length: 20_000 }, newId);
  expect(new Set(ids).size).toBe(ids.length);
  expect(ids.every(isId)).toBe(true);
  expect([...ids].sort()).toEqual(ids);
});

test("a derived id is the same for the same secret and parts, and for no others", () => {
  expect(derivedId("secret", "account", "key")).toBe(derivedId("secret", "account", "key"));
  expect(isId(derivedId("secret", "account", "key"))).toBe(true);
  const others = [derivedId("other", "account", "key"), derivedId("secret", "accountk", "ey"), derivedId("secret", "account", "key", "")];
  expect(new Set([derivedId("secret", "account", "key"), ...others]).size).toBe(4);
});

test.each(["", "x", "01A1F8A3-A4F8-7636-A6E0-D2E4950CBED2", "01a1f8a3-a4f8-4636-a6e0-d2e4950cbed2", "01a1f8a3-a4f8-7636-a6e0-d2e4950cbed2 "])("%j is no id", (text) => {
  expect(isId(text)).toBe(false);
});
