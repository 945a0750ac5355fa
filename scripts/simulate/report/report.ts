import type { Picture } from "../album.ts";
import { describeLoad, type Outcome } from "../outcome.ts";
import { formatBytes, formatCount, formatMs, formatRate, formatSetting, formatShare, plural } from "../quantities.ts";
import { ERROR_KINDS, type ErrorKind, type Step } from "../tally.ts";
import { drawDistributions, drawRates, drawWaits } from "./charts.ts";
import { STYLE } from "./style.ts";

const STEP_WORDS: Record<Step, string> = {
  page: "from opening the upload page until it can be used",
  upload: "from choosing a file until its receipt",
  stored: "from the receipt until it is in the ledger",
};

/** As in public/logo.svg. */
const LOGO = `<svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="8" fill="#222a4a"/><path d="M4.5 11h7M3.5 16h5.5M5.5 21h5" stroke="#86a6ff" stroke-width="2" stroke-linecap="round"/><path d="M20.5 4.5 11.8 17.2h5.7L15.4 27.5 25.6 13.6h-6.3z" fill="#ffc53d" stroke="#ffc53d" stroke-width="1.4" stroke-linejoin="round"/></svg>`;

/** One HTML file that needs nothing else: no script, no picture and no font from elsewhere. */
export function formatReport(outcome: Outcome): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${headline(outcome)} · ConnectStorm simulation</title>
<style>${STYLE}</style>
<header>${LOGO}<span>ConnectStorm</span><span>Simulation of <time datetime="${outcome.startedAt.toISOString()}">${outcome.startedAt.toISOString().slice(0, 16).replace("T", " ")} UTC</time></span></header>
<main>
<h1>${headline(outcome)}</h1>
<p class="lead">${escape(describeLoad(outcome.options))}, ${outcome.options.driver === "browser" ? "in real browsers" : "by HTTP"}. It took ${formatMs(outcome.elapsedMs)}${missedWords(outcome)}.</p>
${[figures, verdicts, missing, steps, timelines, errors, screenshots, facts].map((part) => part(outcome)).filter(Boolean).join("\n")}
</main>
</html>
`;
}

function headline({ stopped, receipts, figures }: Outcome): string {
  if (stopped) return `Stopped after ${plural(figures.received, "upload")}`;
  if (receipts.receipts === 0) return "No upload was received";
  if (receipts.missing > 0) return `${plural(receipts.missing, "receipt is", "receipts are")} not accounted for`;
  if (receipts.wrong > 0) return `${plural(receipts.wrong, "upload has", "uploads have")} other bytes than were sent`;
  if (receipts.failed > 0) return `All receipts are accounted for, ${formatCount(receipts.failed)} as dead letters`;
  return receipts.receipts === 1 ? "The one upload is accounted for" : `All ${formatCount(receipts.receipts)} uploads are accounted for`;
}

function missedWords({ verdicts: judged }: Outcome): string {
  const missed = judged.filter(({ holds }) => !holds).length;
  return missed === 0 ? "" : `, and ${missed} of ${plural(judged.length, "expectation")} ${missed === 1 ? "does" : "do"} not hold`;
}

function figures({ figures: found, receipts, tally, steps: measured, late, options }: Outcome): string {
  const upload = measured.find(({ step }) => step === "upload");
  const cards: [string, string, string, boolean][] = [
    ["Accounted for", receipts.receipts === 0 ? "–" : formatShare(found.accounted / receipts.receipts), `${formatCount(found.accounted)} of ${plural(receipts.receipts, "receipt")}`, found.accounted < receipts.receipts],
    ["Uploads", formatCount(found.received), `${formatRate(found.uploadsPerSecond)} · ${formatBytes(found.bytesPerSecond)}/s`, false],
    ["Upload, p95", formatMs(upload?.p95), `half of them within ${formatMs(upload?.p50)}`, false],
    ["Errors", formatCount(found.errors), `of ${plural(found.attempted, "upload")} attempted`, found.errors > 0],
  ];
  const notes = [
    ...(late ? [`${formatCount(late.count)} of ${plural(found.arrivals, "arrival")} had to wait for one of the ${formatCount(options.users)} places${late.count > 0 ? `, up to ${formatMs(late.largest)}. Their times are measured from the moment they were due` : ""}.`] : []),
    ...[...tally.retries].map(([why, times]) => `Told to come again, and did, ${formatCount(times)} ×: ${escape(why)}`),
    ...(tally.underWay() > 0 ? [`${plural(tally.underWay(), "upload was", "uploads were")} under way as it was stopped.`] : []),
  ];
  return `<section aria-label="Figures"><div class="figures">
${cards.map(([name, value, note, isBad]) => `<div class="card figure${isBad ? " bad" : ""}"><span class="soft">${name}</span><strong>${value}</strong><span class="soft">${note}</span></div>`).join("\n")}
</div>${notes.map((note) => `<p class="soft">${note}</p>`).join("")}</section>`;
}

function verdicts({ verdicts: judged }: Outcome): string {
  return `<section><h2>Expected</h2><ul class="verdicts">
${judged.map(({ text, holds, actual }) => `<li class="${holds ? "good" : "bad"}"><span class="mark" role="img" aria-label="${holds ? "holds" : "does not hold"}">${holds ? "✓" : "✗"}</span><b>${escape(text)}</b><span>${actual}</span></li>`).join("\n")}
</ul></section>`;
}

function missing({ receipts, options, stopped }: Outcome): string {
  if (receipts.missing === 0 && receipts.failed === 0) return "";
  const reasons = [...receipts.failedReasons].map(([reason, times]) => `<p>${formatCount(times)} × <bdi>${escape(reason)}</bdi></p>`).join("");
  const failed = receipts.failed === 0 ? "" : `<div class="callout warn"><p><b>${plural(receipts.failed, "dead letter")}</b>: received, kept, and not stored. Why, and what to do, is on the site’s page of dead letters.</p>${reasons}</div>`;
  if (receipts.missing === 0) return `<section><h2>Failed</h2>${failed}</section>`;
  const rest = receipts.missing - receipts.named.length;
  return `<section><h2>Missing</h2>
<div class="callout"><p>The site promised these, and ${stopped ? "they were not found before the run was stopped." : `none of them became stored within ${formatSetting(options.patienceMs)}. Is a worker running?`}</p></div>${failed}
<div class="card table"><table><thead><tr><th>File id</th><th>Last said of it</th></tr></thead><tbody>
${receipts.named.map(({ fileId, name, user, lastStatus }) => `<tr><td><code>${escape(fileId)}</code><span class="soft"><bdi>${escape(name)}</bdi>, ${escape(user)}</span></td><td class="wide">${escape(lastStatus)}</td></tr>`).join("\n")}
</tbody></table></div>${rest > 0 ? `<p class="soft">and ${formatCount(rest)} more</p>` : ""}</section>`;
}

function steps({ steps: measured }: Outcome): string {
  return `<section><h2>What a person waits for</h2><div class="card table"><table class="steps">
<thead><tr><th>Step</th><th>Count</th><th>p50</th><th>p95</th><th>p99</th><th>Slowest</th></tr></thead><tbody>
${measured.map(({ step, count, p50, p95, p99, largest }) => `<tr><td><span class="swatch of-${step}"></span><b>${step}</b><span class="soft">${STEP_WORDS[step]}</span></td><td>${formatCount(count)}</td>${[p50, p95, p99, largest].map((ms) => `<td>${formatMs(ms)}</td>`).join("")}</tr>`).join("\n")}
</tbody></table></div></section>`;
}

function timelines({ tally }: Outcome): string {
  if (tally.timeline.stretches().length === 0) return "";
  const hasWaits = tally.counts.received > 0;
  return `<section aria-label="Charts">${drawRates(tally)}${hasWaits ? `<div class="two">${drawWaits(tally)}${drawDistributions(tally)}</div>` : ""}</section>`;
}

function errors({ tally }: Outcome): string {
  if (tally.errors.size === 0) return "";
  const rows = [...tally.errors].sort(([, one], [, other]) => other.count - one.count).map(([kind, { count, details }]) => (
    `<tr><td><b>${kind}</b><span class="soft">${ERROR_KINDS[kind as ErrorKind]}</span></td><td class="wide">${[...details].map(([detail, times]) => `${formatCount(times)} × <bdi>${escape(detail)}</bdi>`).join("<br>")}</td><td>${formatCount(count)}</td></tr>`
  ));
  return `<section><h2>Errors</h2><div class="card table"><table><thead><tr><th>Kind</th><th class="wide">What was said</th><th>Count</th></tr></thead><tbody>
${rows.join("\n")}
</tbody></table></div></section>`;
}

function screenshots({ pictures, unseen }: Outcome): string {
  const shown = pictures.filter(({ address }) => address.startsWith("data:")), linked = pictures.filter((picture) => !shown.includes(picture));
  const none = unseen === 0 ? "" : `<p class="soft">Of ${plural(unseen, "user")} more there is no picture: the browser or the page was gone, or did not answer.</p>`;
  if (pictures.length === 0) return none && `<section><h2>What they saw</h2>${none}</section>`;
  return `<section><h2>What they saw</h2><div class="shots">
${shown.map((picture) => `<figure class="card"><img src="${picture.address}" alt="The ${picture.isReceipt ? "receipt" : "page"} as ${escape(picture.user)} saw it"><figcaption>${caption(picture)}</figcaption></figure>`).join("\n")}
</div>${linked.length === 0 ? "" : `<p class="soft">The others are in the folder beside this report.</p>
<ul class="card links">
${linked.map((picture) => `<li><a href="${escape(picture.address)}">Picture</a> ${caption(picture)}</li>`).join("\n")}
</ul>`}${none}</section>`;
}

function caption({ user, kind, detail, atMs, isReceipt }: Picture): string {
  return `<b>${escape(user)}</b>, ${kind}, ${isReceipt ? "the receipt at the end" : `after ${formatMs(atMs)}`}<br><span class="soft"><bdi>${escape(detail)}</bdi></span>`;
}

function facts({ options, facts: known, tally }: Outcome): string {
  const { think } = options;
  const settings: [string, string][] = [
    ["Site", options.target],
    ["Crowd", describeLoad(options)],
    ...(options.arrivalsPerSecond === undefined ? [["Thinking", think.mostMs === 0 ? "none between two visits" : `${formatSetting(think.leastMs)} to ${formatSetting(think.mostMs)} between two visits`] as [string, string]] : []),
    ["Most at once", plural(tally.counts.mostActiveUsers, options.driver === "browser" ? "user" : "client")],
    ...known,
    ["Given up after", `${formatSetting(options.timeoutMs)} for a page or an upload, ${formatSetting(options.patienceMs)} without news for receipts`],
    ["Seed", `${options.seed}: the same number makes the same choices`],
  ];
  return `<section><h2>How it was measured</h2><div class="card"><dl class="facts">
${settings.map(([name, value]) => `<div><dt>${name}</dt><dd>${escape(value)}</dd></div>`).join("\n")}
</dl></div></section>`;
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
