import { expect, test } from "vitest";

interface Speed {
  add(bytes: number, at: number): void;
  perSecond(at: number): number | null;
}
/** What the browser loads. */
const { createSpeed }: { createSpeed(): Speed } = await import(new URL("../../public/upload/speed.js", import.meta.url).href);

test("the speed is that of the last seconds: not known at once, followed when it changes, nothing when nothing moves", () => {
  const speed = createSpeed();
  expect(speed.perSecond(0)).toBeNull();
  speed.add(0, 0);
  speed.add(100, 400);
  expect(speed.perSecond(400)).toBeNull(); // too early to say
  for (let at = 500; at <= 10_000; at += 100) speed.add(at, at); // 1,000 a second
  expect(speed.perSecond(10_000)).toBeCloseTo(1_000, -2);
  for (let at = 10_100; at <= 20_000; at += 100) speed.add(10_000 + (at - 10_000) * 5, at);
  expect(speed.perSecond(20_000)).toBeCloseTo(5_000, -2);
  expect(speed.perSecond(26_000)!).toBeLessThan(2_600); // six seconds of silence
  expect(speed.perSecond(600_000)!).toBeLessThan(60);
});

test("what was sent and lost is not a speed", () => {
  const speed = createSpeed();
  for (let at = 0; at <= 5_000; at += 100) speed.add(at, at);
  speed.add(1_000, 5_100); // goes on from where the server stands
  expect(speed.perSecond(5_200)).toBeNull();
  for (let at = 5_200; at <= 8_000; at += 100) speed.add(1_000 + (at - 5_100), at);
  expect(speed.perSecond(8_000)).toBeCloseTo(1_000, -1);
});
