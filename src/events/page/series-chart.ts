import type { Point } from "../stats/stats-queries.ts";
import { zoneTime } from "./zone-time.ts";

/**
 * A chart of bars as views/partials/series-chart.ejs draws it: across in percent of the width there is, down in pixels, so that it
 * fits every screen without its letters being stretched.
 */
export interface SeriesChart {
  height: number;
  /** From the highest down to 0, at equal distances. */
  ticks: { y: number; count: number }[];
  bars: Bar[];
  labels: { x: string; text: string; minor: boolean }[];
  /** Undefined: nothing happened. */
  highest: Bar | undefined;
}

export interface Bar {
  /** The place it has, gaps to its neighbours included. */
  x: string;
  width: string;
  barX: string;
  barWidth: string;
  y: number;
  height: number;
  when: string;
  events: number;
  /** It is not over yet. */
  now: boolean;
}

const HEIGHT = 176;
const LEAST_BAR = 2; // what is not nothing is seen
const HOUR_MS = 3_600_000;
const MOST_TICKS = 4;
/** Beside each other on a wide screen; a phone shows every second one. */
const MOST_LABELS = 10;
/** Of more days than this the months are named, where they begin. */
const MANY_DAYS = 180;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** @param now  the bar this is in is marked */
export function drawSeries(points: readonly Point[], interval: "hour" | "day", zone: string, now: Date): SeriesChart {
  const most = points.reduce((highest, { events }) => Math.max(highest, events), 0);
  const step = stepFor(most);
  const top = Math.max(1, Math.ceil(most / step)) * step;
  const place = 100 / points.length;
  const gap = place * (points.length > 120 ? 0.1 : 0.2);
  const bars = points.map(({ day, beginsAt, events }, index): Bar => {
    const height = events === 0 ? 0 : Math.max(LEAST_BAR, round((events / top) * HEIGHT));
    return {
      x: percent(index * place), width: percent(place), barX: percent(index * place + gap / 2), barWidth: percent(place - gap),
      y: round(HEIGHT - height), height, when: interval === "day" ? dayName(day) : hourName(beginsAt, zone), events,
      now: beginsAt <= now && now < endOf(points, index, interval),
    };
  });
  return {
    height: HEIGHT,
    ticks: Array.from({ length: top / step + 1 }, (_, index) => ({ y: round((index * step / top) * HEIGHT), count: top - index * step })),
    bars,
    labels: interval === "day" ? dayLabels(points, place) : hourLabels(points, place, zone),
    highest: bars.reduce<Bar | undefined>((highest, bar) => (bar.events > (highest?.events ?? 0) ? bar : highest), undefined),
  };
}

/** "22 Nov 2026" */
export function dayName(day: string): string {
  return `${shortDay(day)} ${day.slice(0, 4)}`;
}

function shortDay(day: string): string {
  return `${Number(day.slice(8))} ${MONTHS[Number(day.slice(5, 7)) - 1]}`;
}

function hourName(beginsAt: Date, zone: string): string {
  const time = zoneTime(beginsAt, zone);
  return `${shortDay(time.slice(0, 10))}, ${time.slice(11, 16)}`;
}

function endOf(points: readonly Point[], index: number, interval: "hour" | "day"): Date {
  const next = points[index + 1]?.beginsAt;
  return next ?? new Date(points[index]!.beginsAt.getTime() + (interval === "hour" ? HOUR_MS : 24 * HOUR_MS));
}

/** 1, 2 or 5 times a power of ten: events come whole. */
function stepFor(most: number): number {
  for (let power = 1; ; power *= 10) {
    for (const digit of [1, 2, 5]) if (most <= digit * power * MOST_TICKS) return digit * power;
  }
}

function dayLabels(points: readonly Point[], place: number): SeriesChart["labels"] {
  const many = points.length > MANY_DAYS;
  const named = points.map(({ day }, index) => ({ day, index })).filter(({ day }) => !many || day.endsWith("-01"));
  const every = Math.ceil(named.length / MOST_LABELS);
  return named.flatMap(({ day, index }, which) => {
    if (which % every !== 0) return [];
    const text = many ? `${MONTHS[Number(day.slice(5, 7)) - 1]} ${day.slice(0, 4)}` : shortDay(day);
    return [{ x: percent((index + 0.5) * place), text, minor: (which / every) % 2 === 1 }];
  });
}

function hourLabels(points: readonly Point[], place: number, zone: string): SeriesChart["labels"] {
  const every = points.length > 30 ? 6 : 3;
  return points.flatMap(({ beginsAt }, index) => {
    const time = zoneTime(beginsAt, zone);
    const hour = Number(time.slice(11, 13));
    if (hour % every !== 0) return [];
    const text = points.length > 30 && hour === 0 ? shortDay(time.slice(0, 10)) : time.slice(11, 16);
    return [{ x: percent((index + 0.5) * place), text, minor: (hour / every) % 2 === 1 }];
  });
}

function percent(value: number): string {
  return `${Math.round(value * 1000) / 1000}%`;
}

function round(pixels: number): number {
  return Math.round(pixels * 10) / 10;
}
