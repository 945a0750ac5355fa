// The charts: the last quarter of an hour as it goes on, and longer ranges from the database. Drawn by uPlot (/assets/vendor).
import { formatBytes, formatCount, formatDuration, formatTime } from "../format.js";
import { read } from "./connection.js";

const HEIGHT = 168;
const LIVE_MS = 900_000;
const SLICE_MS = 5000;
const READ_AGAIN_MS = 10_000; // at most so often, where what was pushed has a gap
const ROWS = 30; // of a table, at most

/** Steps of an axis: of bytes, and of what comes whole. */
const POWERS = Array.from({ length: 50 }, (_, power) => 2 ** power);
const WHOLE = Array.from({ length: 12 }, (_, power) => [1, 2, 5].map((step) => step * 10 ** power)).flat();

const duration = (ms) => formatDuration(ms === null ? null : ms / 1000);
const perSecond = (values, seconds) => values.map((value) => (value === null ? null : value / seconds));
const total = (values) => values.reduce((sum, value) => sum + (value ?? 0), 0);

/** What is drawn for a range: each series takes its values from what /api/history answers. */
const LIVE_CHARTS = [
  {
    title: "Uploads a second", format: formatCount, fold: "mean",
    series: [
      { label: "accepted", values: (history) => perSecond(history.accepted, SLICE_MS / 1000) },
      { label: "settled", values: (history) => perSecond(history.settled, SLICE_MS / 1000) },
    ],
    totals: (history) => `${formatCount(total(history.accepted))} accepted, ${formatCount(total(history.settled))} settled.`,
  },
  {
    title: "Bytes a second", format: formatBytes, binary: true, fold: "mean",
    series: [
      { label: "accepted", values: (history) => perSecond(history.accepted_bytes, SLICE_MS / 1000) },
      { label: "settled", values: (history) => perSecond(history.settled_bytes, SLICE_MS / 1000) },
    ],
    totals: (history) => `${formatBytes(total(history.accepted_bytes))} accepted, ${formatBytes(total(history.settled_bytes))} settled.`,
  },
  {
    title: "Acceptance to ledger", format: duration, fold: "max",
    series: [
      { label: "95 of 100", values: (history) => history.p95_ms },
      { label: "half", values: (history) => history.p50_ms },
    ],
    totals: () => "",
  },
  {
    title: "In the queue", format: formatCount, whole: true, fold: "max",
    series: [{ label: "entries", values: (history) => history.queue }],
    totals: (history) => (total(history.failed) > 0 ? `${formatCount(total(history.failed))} attempts failed.` : "No attempt failed."),
  },
];
const LONG_CHARTS = [
  {
    title: "Uploads", format: formatCount, whole: true, bars: true, fold: "sum",
    series: [{ label: "stored", values: (history) => history.stored }],
    totals: (history) => `${formatCount(total(history.stored))} in all.`,
  },
  {
    title: "Bytes", format: formatBytes, binary: true, bars: true, fold: "sum",
    series: [{ label: "stored", values: (history) => history.stored_bytes }],
    totals: (history) => `${formatBytes(total(history.stored_bytes))} in all.`,
  },
  {
    title: "Dead letters", format: formatCount, whole: true, bars: true, fold: "sum", failed: true,
    series: [{ label: "failed, and still there", values: (history) => history.failed }],
    totals: (history) => (history.failed.includes(null) ? "Too many to count here." : `${formatCount(total(history.failed))} in all.`),
  },
];

const box = document.querySelector("#charts");
const ranges = document.querySelector("#ranges");
const trouble = document.querySelector("#charts-trouble");

let range = "15m";
let live; // the last quarter of an hour, as /api/history has it
let long; // what is shown of the longer ranges
let charts = [];
let readAt = -Infinity;
let asked = 0;

ranges.hidden = false;
ranges.addEventListener("change", ({ target }) => {
  range = target.value;
  void load();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => build());
new ResizeObserver(() => {
  for (const { plot, holder } of charts) if (holder.clientWidth > 0 && holder.clientWidth !== plot.width) plot.setSize({ width: holder.clientWidth, height: HEIGHT });
}).observe(box);

/** Reads what the charts show of the past, and draws them. */
export async function load() {
  const mine = ++asked;
  readAt = performance.now();
  const history = await read(`/api/history?range=${range}`).catch(() => null);
  if (mine !== asked) return;
  trouble.hidden = history !== null;
  box.hidden = history === null;
  if (history === null) return;
  if (range === "15m") live = history;
  else long = history;
  build();
}

/** The newest points, pushed with the figures; where they do not reach back to what is drawn, that is read again. */
export function add(lately) {
  const newest = lately.at.at(-1);
  if (live !== undefined && lately.at.length > 0) {
    if (lately.at[0] > live.at.at(-1) + SLICE_MS) live = undefined;
    else merge(lately);
  }
  // A longer range gets a new bucket every quarter of an hour; only then is it asked for.
  const due = range === "15m" ? live === undefined : long !== undefined && newest >= long.at.at(-1) + long.every_seconds * 1000;
  if (due && performance.now() - readAt > READ_AGAIN_MS) void load();
  else if (range === "15m" && live !== undefined) refresh();
}

function merge(lately) {
  const from = live.at.findIndex((at) => at >= lately.at[0]);
  const keep = from < 0 ? live.at.length : from;
  const drop = Math.max(0, live.at.slice(0, keep).findIndex((at) => at > lately.at.at(-1) - LIVE_MS));
  for (const name of Object.keys(lately)) live[name] = [...live[name].slice(drop, keep), ...lately[name]];
}

function build() {
  const history = range === "15m" ? live : long;
  if (history === undefined) return;
  const open = charts.map(({ figure }) => figure.querySelector("details").open);
  for (const { plot } of charts) plot.destroy();
  const wanted = range === "15m" ? LIVE_CHARTS : LONG_CHARTS;
  box.replaceChildren();
  box.dataset.range = range;
  charts = wanted.map((chart, index) => {
    const figure = document.querySelector("#chart").content.firstElementChild.cloneNode(true);
    box.append(figure);
    figure.querySelector("details").open = open[index] ?? false;
    figure.querySelector("details").addEventListener("toggle", () => showTable(figure, chart));
    return draw(figure, chart, history, index);
  });
  refresh();
}

function draw(figure, chart, history, index) {
  const field = (name) => figure.querySelector(`[data-field="${name}"]`);
  field("title").textContent = chart.title;
  field("title").id = `chart-${index}`;
  field("summary").id = `chart-${index}-summary`;
  const holder = field("plot");
  holder.setAttribute("aria-labelledby", `chart-${index}`);
  holder.setAttribute("aria-describedby", `chart-${index}-summary`);
  figure.querySelector(".scroll").setAttribute("aria-labelledby", `chart-${index}`);
  const keys = chart.series.map(({ label }, which) => {
    const key = document.createElement("li");
    key.dataset.key = chart.failed ? "failed" : String(which);
    const value = document.createElement("span");
    value.className = "key-value";
    key.append(label, " ", value);
    field("keys").append(key);
    return value;
  });
  const plot = new uPlot(optionsOf(chart, holder, keys), dataOf(chart, history), holder);
  return { chart, figure, holder, plot, keys };
}

function optionsOf(chart, holder, keys) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const strokes = chart.failed ? [colour("bad")] : [colour("link"), colour("good")];
  const font = `12px ${style.getPropertyValue("--sans")}`;
  const axis = { stroke: colour("soft"), font, grid: { stroke: colour("line"), width: 1 }, ticks: { show: false } };
  return {
    width: Math.max(200, holder.clientWidth), height: HEIGHT, padding: [8, 8, 0, 0],
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    legend: { show: false },
    cursor: { y: false, points: { size: 7 }, drag: { x: false, y: false } },
    scales: { y: { range: (_, _least, most) => [0, most > 0 ? most * 1.08 : 1] } },
    axes: [
      { ...axis, size: 32, gap: 9, space: 70, values: (_, ticks, _axis, _space, step) => ticks.map((seconds) => tickOf(seconds, step)) },
      { ...axis, size: 62, gap: 6, space: 34, values: (_, ticks) => ticks.map((value) => chart.format(value)), ...(chart.binary && { incrs: POWERS }), ...(chart.whole && { incrs: WHOLE }) },
    ],
    series: [{}, ...chart.series.map((_, which) => ({
      stroke: strokes[which], width: 2, points: { show: false },
      ...(which > 0 && { dash: [6, 4] }), // not told apart by colour alone
      ...(which === 0 && { fill: `color-mix(in srgb, ${strokes[0]} ${chart.bars ? 70 : 14}%, transparent)` }),
      ...(chart.bars && { paths: uPlot.paths.bars({ size: [0.86, 60], align: 1 }), width: 0 }),
    }))],
    hooks: { setCursor: [(plot) => showValues(chart, plot, keys)] },
  };
}

function tickOf(seconds, step) {
  const text = new Date(seconds * 1000).toISOString();
  if (step >= 86_400) return `${Number(text.slice(8, 10))} ${MONTHS[Number(text.slice(5, 7)) - 1]}`;
  return step < 60 ? text.slice(11, 19) : text.slice(11, 16);
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

function dataOf({ series }, history) {
  return [history.at.map((at) => at / 1000), ...series.map(({ values }) => values(history))];
}

function refresh() {
  const history = range === "15m" ? live : long;
  for (const { chart, figure, plot, keys } of charts) {
    plot.setData(dataOf(chart, history));
    showSummary(figure, chart, history);
    showValues(chart, plot, keys);
    if (figure.querySelector("details").open) showTable(figure, chart);
  }
}

/** Beside each name: the value under the pointer. */
function showValues(chart, plot, keys) {
  const at = plot.cursor.idx;
  keys.forEach((key, which) => {
    const value = at == null ? undefined : plot.data[which + 1][at];
    key.textContent = value == null ? "" : chart.format(value);
  });
}

function showSummary(figure, chart, history) {
  const [values] = chart.series.map((series) => series.values(history));
  const known = values.filter((value) => value !== null);
  const most = Math.max(0, ...known);
  const text = known.length === 0 ? "Nothing is known of this time."
    : most === 0 ? chart.totals(history) || "Nothing."
      : `Highest: ${chart.format(most)} at ${momentOf(history.at[values.indexOf(most)])}. ${chart.totals(history)}`;
  const summary = figure.querySelector('[data-field="summary"]');
  if (summary.textContent !== text) summary.textContent = text;
}

function momentOf(at) {
  const text = formatTime(new Date(at));
  return range === "15m" ? text.slice(11) : text.replace(/:\d\d UTC$/, " UTC");
}

/** Some rows of a chart's numbers: neighbours are put together. */
function showTable(figure, chart) {
  const history = range === "15m" ? live : long;
  if (!figure.querySelector("details").open || history === undefined) return;
  const columns = chart.series.map(({ values }) => values(history));
  const size = Math.ceil(history.at.length / ROWS);
  figure.querySelector("thead tr").replaceChildren(...["From", ...chart.series.map(({ label }) => label)].map((text) => cell("th", text)));
  const lines = [];
  for (let from = history.at.length - size; from > -size; from -= size) {
    const first = Math.max(0, from);
    const row = document.createElement("tr");
    row.append(cell("td", momentOf(history.at[first])), ...columns.map((values) => cell("td", chart.format(fold(values.slice(first, from + size), chart.fold)))));
    lines.push(row);
  }
  figure.querySelector("tbody").replaceChildren(...lines);
}

function fold(values, how) {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return null;
  if (how === "max") return Math.max(...known);
  return how === "sum" ? total(known) : total(known) / known.length;
}

function cell(kind, text) {
  const made = document.createElement(kind);
  if (kind === "th") made.scope = "col";
  made.textContent = text;
  return made;
}
