/**
 * Writes the sample uploads in files/, one of each common kind, all valid, made from fixed seeds and dates.
 * Run from the checkout after a build: node dist/scripts/make-sample-files.js [folder]
 * Two runs give the same bytes; only another zlib (another Node.js) may pack .png, .zip and .gz differently.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bmp, gzip, pdf, png, tar, wav, zip } from "./sample-formats.ts";
import { randomFrom } from "./random.ts";

const DAY = Date.UTC(2025, 10, 7);
const STATIONS = [
  { id: "ridge", name: "Ridge mast", longitude: 8.5417, latitude: 47.3769, baseCelsius: 6.2 },
  { id: "harbour", name: "Harbour gauge", longitude: 9.4787, latitude: 47.6543, baseCelsius: 9.1 },
  { id: "meadow", name: "Meadow box", longitude: 7.4474, latitude: 46.948, baseCelsius: 7.4 },
];

const folder = process.argv[2] ?? "files";
const readings = sensorReadings();
const text = fieldNotes();

const files: Record<string, string | Buffer> = {
  "field-notes.txt": text,
  "handbook.md": handbook(),
  "sensor-readings.csv": readings,
  "station.json": `${JSON.stringify({ made: iso(DAY), stations: STATIONS }, null, 2)}\n`,
  "strikes.ndjson": strikes(),
  "catalogue.xml": catalogue(),
  "report.html": report(),
  "bolt.svg": bolt(),
  "storm-sky.png": png(640, 400, stormSky(640, 400)),
  "ripples.bmp": bmp(96, 96, ripples),
  "chord.wav": wav(22_050, chord(22_050, 1.5)),
  "report.pdf": pdf(["ConnectStorm sample report", "Three stations, one day, 2025-11-07.", "Every reading arrived. Every reading is in the ledger."]),
  "readings.zip": zip({ "sensor-readings.csv": Buffer.from(readings), "field-notes.txt": Buffer.from(text) }),
  "sensor-readings.csv.gz": gzip(Buffer.from(readings)),
  "field-kit.tar": tar({ "field-kit/field-notes.txt": Buffer.from(text), "field-kit/handbook.md": Buffer.from(handbook()) }, DAY),
  "model-update.bin": noise(64 * 1024, 0x5eed),
  "übersicht-Zürich-日本.txt": "Übersicht der Messstellen in Zürich\n観測所の一覧: 日本\nΚαταιγίδα · гроза · عاصفة · ⛈️\n",
  "maintenance.ics": calendar(),
  "stations.geojson": geojson(),
};

mkdirSync(folder, { recursive: true });
let totalBytes = 0;
for (const [name, content] of Object.entries(files)) {
  const bytes = typeof content === "string" ? Buffer.from(content) : content;
  writeFileSync(join(folder, name), bytes);
  totalBytes += bytes.length;
}
console.log(`${Object.keys(files).length} files, ${Math.round(totalBytes / 1024)} KiB, in ${folder}`);

// Numbers

function noise(sizeBytes: number, seed: number): Buffer {
  const random = randomFrom(seed);
  return Buffer.from(Array.from({ length: sizeBytes }, () => Math.floor(random() * 256)));
}

function iso(at: number): string {
  return new Date(at).toISOString();
}

// Text

function sensorReadings(): string {
  const random = randomFrom(1);
  const lines = ["time,station,celsius,humidity_percent,pressure_hpa"];
  for (let minute = 0; minute < 24 * 60; minute += 5) {
    for (const { id, baseCelsius } of STATIONS) {
      const sun = Math.sin(((minute / 1440) * 2 - 0.5) * Math.PI);
      const celsius = baseCelsius + 4 * sun + random() - 0.5;
      const humidity = 74 - 14 * sun + 4 * random();
      const pressure = 1013 - minute / 160 + random() / 2;
      lines.push([iso(DAY + minute * 60_000), id, celsius.toFixed(2), humidity.toFixed(1), pressure.toFixed(1)].join(","));
    }
  }
  return `${lines.join("\n")}\n`;
}

function fieldNotes(): string {
  return `Field notes, 7 November 2025

06:10  Ridge mast: ice on the vane, wind 14 m/s. Readings keep coming.
09:45  Harbour gauge: battery changed, clock checked against the receiver.
12:30  First strike, about 3 km out. Counted nine seconds.
12:31  Second strike. Six seconds. Packed the ladder.
15:20  Meadow box was offline for four minutes; it handed in what it had kept.
`;
}

function handbook(): string {
  return `# Station handbook

## Every morning
- [ ] Look at the dashboard: is anything waiting?
- [ ] Wipe the lens
- [ ] Compare the clock

## Handing in by hand
\`\`\`sh
curl -F file=@sensor-readings.csv http://localhost:8080/api/upload
\`\`\`

| station | height | since |
|---|---:|---|
${STATIONS.map(({ name }, index) => `| ${name} | ${412 + index * 87} m | 201${index + 3} |`).join("\n")}
`;
}

function strikes(): string {
  const random = randomFrom(2);
  let at = DAY + 12.5 * 3_600_000;
  return Array.from({ length: 200 }, (_, index) => {
    at += Math.round(random() * 40_000);
    const kiloamperes = Number((8 + 40 * random() ** 3).toFixed(1));
    return `${JSON.stringify({ strike: index + 1, at: iso(at), kiloamperes, kilometres: Number((12 * random()).toFixed(2)) })}\n`;
  }).join("");
}

function catalogue(): string {
  const entries = STATIONS.map(
    ({ id, name, baseCelsius }) => `  <station id="${id}">\n    <name>${name}</name>\n    <mean unit="celsius">${baseCelsius}</mean>\n  </station>`,
  );
  return `<?xml version="1.0" encoding="UTF-8"?>\n<catalogue made="2025-11-07">\n${entries.join("\n")}\n</catalogue>\n`;
}

function report(): string {
  const rows = STATIONS.map(({ name, baseCelsius }) => `    <tr><td>${name}</td><td>${baseCelsius} °C</td></tr>`);
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Daily report</title></head>
<body>
  <h1>Daily report, 2025-11-07</h1>
  <table>
${rows.join("\n")}
  </table>
</body>
</html>
`;
}

function bolt(): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 120 120" width="480" height="480">
  <title>A bolt over three streams</title>
  <rect width="120" height="120" rx="24" fill="#222a4a"/>
  <path d="M14 40h30M10 60h24M18 80h18" stroke="#86a6ff" stroke-width="7" stroke-linecap="round"/>
  <path d="M78 16 44 66h22l-8 38 40-52H74z" fill="#ffc53d"/>
</svg>
`;
}

function calendar(): string {
  const event = ["UID:maintenance-1@connectstorm.example", "DTSTAMP:20251107T123000Z", "DTSTART:20251110T080000Z", "DTEND:20251110T093000Z", "SUMMARY:Ridge mast: clear the ice"];
  return [
    "BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//ConnectStorm//Sample files//EN",
    "BEGIN:VEVENT", ...event, "END:VEVENT", "END:VCALENDAR", "",
  ].join("\r\n");
}

function geojson(): string {
  const features = STATIONS.map(({ id, name, longitude, latitude }) => ({
    type: "Feature", id, properties: { name }, geometry: { type: "Point", coordinates: [longitude, latitude] },
  }));
  return `${JSON.stringify({ type: "FeatureCollection", features }, null, 2)}\n`;
}

// Pictures

/** A night sky: clouds of layered noise, lit by one bolt. RGB, row by row. */
function stormSky(width: number, height: number): Buffer {
  const random = randomFrom(7);
  const lattice = Array.from({ length: 64 * 64 }, random);
  const smooth = (value: number) => value * value * (3 - 2 * value);
  const valueNoise = (x: number, y: number) => {
    const [column, row] = [Math.floor(x), Math.floor(y)];
    const [right, down] = [smooth(x - column), smooth(y - row)];
    const at = (c: number, r: number) => lattice[((r & 63) << 6) | (c & 63)] ?? 0;
    const above = at(column, row) * (1 - right) + at(column + 1, row) * right;
    const below = at(column, row + 1) * (1 - right) + at(column + 1, row + 1) * right;
    return above * (1 - down) + below * down;
  };
  // A bolt runs straight between turns a few rows apart, each thrown off a line that leans left.
  const leaning = (y: number) => width * (0.66 - (0.22 * y) / height);
  const turns = Array.from({ length: height / 9 + 2 }, (_, index) => leaning(index * 9) + (random() - 0.5) * 26);
  const boltAt = Array.from({ length: height }, (_, y) => {
    const [from = 0, to = 0] = turns.slice(Math.floor(y / 9));
    return from + ((to - from) * (y % 9)) / 9;
  });
  const ground = height * 0.86;
  const pixels = Buffer.alloc(width * height * 3);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      let cloud = 0;
      for (let octave = 0; octave < 5; octave += 1) {
        const scale = 2 ** octave / 110;
        cloud += valueNoise(x * scale + octave * 13, y * scale * 1.7 + octave * 7) / 2 ** (octave + 1);
      }
      const away = Math.abs(x - (boltAt[y] ?? 0));
      const glow = Math.exp(-Math.abs(x - leaning(y)) / 90) * 0.75 + Math.exp(-away / 7) * 0.5;
      const light = (0.16 + 0.5 * glow) * (0.35 + cloud * 1.3) * (1.15 - (0.55 * y) / height);
      const core = away < 2.2 && y < ground ? 1 : 0;
      const hill = y > ground + 14 * valueNoise(x / 60, 5) ? 0.16 : 1;
      const tint = [150 * light + 225 * core, 165 * light + 215 * core, 300 * light + 190 * core];
      // Steps of four, as nobody sees finer ones at night and the file halves.
      tint.forEach((value, channel) => (pixels[(y * width + x) * 3 + channel] = Math.min(252, Math.max(8, value * hill)) & 0xfc));
    }
  }
  return pixels;
}

function ripples(x: number, y: number): [number, number, number] {
  const wave = Math.sin(Math.hypot(x - 0.5, y - 0.42) * 42) * 0.5 + 0.5;
  return [40 + 60 * wave, 70 + 110 * wave, 130 + 120 * wave];
}

// Sound

/** A minor, three sines fading out; samples in -1..1. */
function chord(sampleRate: number, seconds: number): number[] {
  return Array.from({ length: sampleRate * seconds }, (_, index) => {
    const at = index / sampleRate;
    const tone = [220, 261.63, 329.63].reduce((sum, hertz) => sum + Math.sin(2 * Math.PI * hertz * at), 0) / 3;
    return tone * Math.min(1, at * 40) * Math.exp(-2.2 * at) * 0.8;
  });
}
