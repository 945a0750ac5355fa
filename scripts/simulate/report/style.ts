/** The language of docs/design.md, copied, so that the report needs no other file. Yellow is for what happens now: here, nothing. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --ground: #f5f6fa; --surface: #ffffff; --sunken: #eef0f6; --ink: #171c2e; --soft: #545d74; --line: #dfe2ec; --edge: #7b839b; --link: #2a52c9;
  --good: #146c43; --good-ground: #e5f5ec; --warn: #7a4d00; --warn-ground: #fff3d6; --bad: #b3202f; --bad-ground: #fdeaec;
  --glow: #dfe6ff; --shadow: 0 1px 2px #171c2e0f, 0 8px 24px -12px #171c2e2e;
  --page: #6d7693; --upload: #2a52c9; --stored: #146c43; --bolt: #ffc53d;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Helvetica Neue", Arial, sans-serif;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #0f1220; --surface: #171b2d; --sunken: #111525; --ink: #eceef6; --soft: #a3abc2; --line: #2a3049; --edge: #6d7693; --link: #9db5ff;
    --good: #6fd6a2; --good-ground: #12291f; --warn: #ffcb5c; --warn-ground: #2b2312; --bad: #ff9aa3; --bad-ground: #32171d;
    --glow: #1d2547; --shadow: 0 1px 2px #0006, 0 12px 32px -16px #000a;
    --page: #a3abc2; --upload: #9db5ff; --stored: #6fd6a2;
  }
}
*, *::before, *::after { box-sizing: border-box; }
body { margin: 0; font: 1rem/1.55 var(--sans); color: var(--ink); background: radial-gradient(64rem 26rem at 50% -12rem, var(--glow), transparent) no-repeat var(--ground); -webkit-text-size-adjust: 100%; }
h1, h2, p, ul, dl, dd, figure, table { margin: 0; padding: 0; }
h1 { font-size: clamp(1.75rem, 1.4rem + 1.6vw, 2.375rem); line-height: 1.15; letter-spacing: -0.025em; font-weight: 650; text-wrap: balance; }
h2 { font-size: 1.125rem; letter-spacing: -0.01em; font-weight: 620; }
ul { list-style: none; }
code { font: 0.8125rem var(--mono); overflow-wrap: anywhere; }
bdi { overflow-wrap: anywhere; }
.soft { color: var(--soft); font-size: 0.8125rem; }
header, main { width: 100%; max-width: 72rem; margin-inline: auto; padding-inline: clamp(1rem, 4vw, 2rem); }
header { display: flex; align-items: center; gap: 0.6rem; padding-block: 1rem; font-weight: 650; letter-spacing: -0.015em; }
header svg { width: 1.625rem; height: 1.625rem; }
header span + span { margin-inline-start: auto; color: var(--soft); font-size: 0.8125rem; font-weight: 400; letter-spacing: 0; }
main { display: flex; flex-direction: column; gap: 1.75rem; padding-block: clamp(1.5rem, 4vw, 3rem) 3rem; }
main > section { display: flex; flex-direction: column; gap: 0.875rem; }
.lead { margin-top: -1.125rem; color: var(--soft); font-size: 1.125rem; text-wrap: pretty; }
.card { padding: clamp(1rem, 3vw, 1.5rem); background: var(--surface); border: 1px solid var(--line); border-radius: 14px; box-shadow: var(--shadow); }
.figures { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 1rem; }
.figure { display: flex; flex-direction: column; gap: 0.25rem; container-type: inline-size; }
.figure strong { font-size: clamp(1.125rem, 15cqi, 2.375rem); line-height: 1.15; letter-spacing: -0.025em; font-weight: 650; font-variant-numeric: tabular-nums; white-space: nowrap; }
.figure.bad strong { color: var(--bad); }
.verdicts { display: grid; gap: 0.5rem; }
.verdicts li { display: grid; grid-template-columns: 1.75rem minmax(0, 1fr) auto; align-items: center; gap: 0.75rem; padding: 0.625rem 1rem; border-radius: 10px; font-variant-numeric: tabular-nums; }
.verdicts li.good { background: var(--good-ground); } .verdicts li.bad { background: var(--bad-ground); }
.verdicts .mark { font-weight: 700; } .good .mark { color: var(--good); } .bad .mark, .verdicts .bad b { color: var(--bad); }
.verdicts b { font-weight: 600; }
.two { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1.25rem; }
.chart { display: grid; grid-template: "legend legend" auto "y plot" 13rem ". x" auto / auto minmax(0, 1fr); gap: 0.375rem 0.625rem; }
.legend { grid-area: legend; display: flex; flex-wrap: wrap; gap: 0.125rem 1rem; margin-bottom: 0.25rem; color: var(--soft); font-size: 0.8125rem; }
.legend b { color: var(--ink); font-size: 0.9375rem; font-weight: 600; margin-inline-end: auto; }
.legend i { display: inline-block; width: 0.75rem; height: 0.75rem; margin-inline-end: 0.375rem; border-radius: 3px; vertical-align: -1px; background: var(--of); }
.legend i.line { height: 0; border-top: 3px solid var(--of); border-radius: 0; background: none; vertical-align: 3px; }
.legend i.dashed { width: 1rem; border-top-style: dotted; }
.y { grid-area: y; display: flex; flex-direction: column-reverse; justify-content: space-between; margin-block: -0.5em; text-align: end; }
.x { grid-area: x; position: relative; height: 1em; }
.x span { position: absolute; transform: translateX(-50%); }
.y, .x { color: var(--soft); font-size: 0.8125rem; line-height: 1; font-variant-numeric: tabular-nums; white-space: nowrap; }
.plot { grid-area: plot; width: 100%; height: 100%; overflow: visible; }
.plot path, .plot line { vector-effect: non-scaling-stroke; fill: none; stroke-linejoin: round; }
.plot .grid { stroke: var(--line); stroke-width: 1; }
.plot .bar { fill: var(--upload); opacity: 0.85; } .plot .bar.bad { fill: var(--bad); opacity: 1; }
.plot .curve { stroke-width: 2.25; stroke: var(--of); } .plot .dashed { stroke-dasharray: 5 4; }
.of-page { --of: var(--page); } .of-upload { --of: var(--upload); } .of-stored { --of: var(--stored); } .of-bad { --of: var(--bad); }
.table { padding: 0; overflow: hidden; }
table { width: 100%; border-collapse: collapse; font-size: 0.9375rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.7rem 1rem; text-align: end; white-space: nowrap; }
th { color: var(--soft); font-size: 0.8125rem; font-weight: 550; background: var(--sunken); }
tbody tr + tr > * { border-top: 1px solid var(--line); }
th:first-child, td:first-child { padding-inline-start: 1.5rem; text-align: start; white-space: normal; }
th:last-child, td:last-child { padding-inline-end: 1.5rem; }
td:first-child b { font-weight: 600; }
.steps td:first-child { white-space: nowrap; }
td:first-child .soft { display: block; }
td.wide, th.wide { text-align: start; white-space: normal; overflow-wrap: anywhere; }
.swatch { display: inline-block; width: 0.75rem; height: 0.75rem; margin-inline-end: 0.5rem; border-radius: 3px; background: var(--of); }
.facts > div { display: grid; grid-template-columns: 9rem minmax(0, 1fr); gap: 0.25rem 1rem; padding-block: 0.6rem; }
.facts > div + div { border-top: 1px solid var(--line); }
.facts dt { color: var(--soft); } .facts dd { overflow-wrap: anywhere; }
.callout { display: grid; gap: 0.375rem; padding: 0.875rem 1rem; border-radius: 10px; border-inline-start: 3px solid var(--bad); background: var(--bad-ground); font-size: 0.9375rem; }
.callout.warn { border-color: var(--warn); background: var(--warn-ground); }
details summary { width: fit-content; padding-block: 0.25rem; color: var(--soft); cursor: pointer; }
details[open] summary { color: var(--ink); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 3px; border-radius: 6px; }
.shots { display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: 1.25rem; }
.shots img { display: block; width: 100%; height: auto; border: 1px solid var(--line); border-radius: 10px; }
.links { display: grid; gap: 0.75rem; font-size: 0.875rem; }
.links li { overflow-wrap: anywhere; }
.links a { float: inline-end; margin-inline-start: 1rem; color: var(--link); }
.shots figcaption { padding-top: 0.5rem; font-size: 0.875rem; overflow-wrap: anywhere; }
@media (max-width: 44rem) {
  .figures { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0.75rem; }
  .two { grid-template-columns: minmax(0, 1fr); }
  .legend b { width: 100%; }
  .steps td .soft { display: none; }
  .facts > div { grid-template-columns: minmax(0, 1fr); }
  .facts dt { font-size: 0.8125rem; }
  th, td { padding: 0.6rem 0.4rem; } .steps td, .steps th { font-size: 0.8125rem; }
  .steps .swatch { margin-inline-end: 0.375rem; }
  .steps :is(th, td):nth-child(2) { display: none; }
  th:first-child, td:first-child { padding-inline-start: 1rem; } th:last-child, td:last-child { padding-inline-end: 1rem; }
  .verdicts li { grid-template-columns: 1.25rem minmax(0, 1fr) auto; }
  header span + span { max-width: 12rem; text-align: end; }
}
@media (forced-colors: active) { .verdicts li, .callout { border: 2px solid; } }
`;
