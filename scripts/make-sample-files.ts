/**
 * Writes the sample uploads in files/, one of each common kind, all valid, made from fixed seeds and dates.
 * Run from the checkout after a build: node dist/scripts/make-sample-files.js [folder]
 * Two runs give the same bytes; only another zlib (another Node.js) may pack .png, .zip and .gz differently.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { crc32, deflateRawSync, deflateSync, gzipSync } from "node:zlib";

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
  "field-kit.tar": tar({ "field-kit/field-notes.txt": Buffer.from(text), "field-kit/handbook.md": Buffer.from(handbook()) }),
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

/** mulberry32: small, and the same everywhere, unlike Math.random. */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

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

/** 8-bit RGB, each row filtered against the one above it. */
function png(width: number, height: number, pixels: Buffer): Buffer {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2, 0, 0, 0], 8);
  const stride = width * 3;
  const rows = Buffer.alloc((stride + 1) * height);
  for (let y = 0; y < height; y += 1) {
    rows[y * (stride + 1)] = 2;
    for (let i = 0; i < stride; i += 1) {
      const above = y === 0 ? 0 : (pixels[(y - 1) * stride + i] ?? 0);
      rows[y * (stride + 1) + 1 + i] = (pixels[y * stride + i] ?? 0) - above;
    }
  }
  const chunk = (type: string, data: Buffer) => {
    const body = Buffer.concat([Buffer.from(type), data]);
    return Buffer.concat([uint32be(data.length), body, uint32be(crc32(body))]);
  };
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([signature, chunk("IHDR", header), chunk("IDAT", deflateSync(rows, { level: 9 })), chunk("IEND", Buffer.alloc(0))]);
}

function ripples(x: number, y: number): [number, number, number] {
  const wave = Math.sin(Math.hypot(x - 0.5, y - 0.42) * 42) * 0.5 + 0.5;
  return [40 + 60 * wave, 70 + 110 * wave, 130 + 120 * wave];
}

/** 24-bit, bottom row first, blue before red: as the format wants it. `colour` takes 0..1, gives RGB. */
function bmp(width: number, height: number, colour: (x: number, y: number) => [number, number, number]): Buffer {
  const stride = Math.ceil((width * 3) / 4) * 4;
  const out = Buffer.alloc(54 + stride * height);
  out.write("BM", 0);
  out.writeUInt32LE(out.length, 2);
  out.writeUInt32LE(54, 10);
  out.writeUInt32LE(40, 14);
  out.writeInt32LE(width, 18);
  out.writeInt32LE(height, 22);
  out.writeUInt16LE(1, 26);
  out.writeUInt16LE(24, 28);
  out.writeUInt32LE(stride * height, 34);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const [red, green, blue] = colour(x / width, 1 - y / height);
      out.set([blue, green, red].map(Math.round), 54 + y * stride + x * 3);
    }
  }
  return out;
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

function wav(sampleRate: number, samples: number[]): Buffer {
  const out = Buffer.alloc(44 + samples.length * 2);
  out.write("RIFF", 0);
  out.writeUInt32LE(out.length - 8, 4);
  out.write("WAVEfmt ", 8);
  out.writeUInt32LE(16, 16);
  out.writeUInt16LE(1, 20);
  out.writeUInt16LE(1, 22);
  out.writeUInt32LE(sampleRate, 24);
  out.writeUInt32LE(sampleRate * 2, 28);
  out.writeUInt16LE(2, 32);
  out.writeUInt16LE(16, 34);
  out.write("data", 36);
  out.writeUInt32LE(samples.length * 2, 40);
  samples.forEach((sample, index) => out.writeInt16LE(Math.round(sample * 32_767), 44 + index * 2));
  return out;
}

// Documents and packages

/** One A4 page; lines are plain ASCII without brackets, so that nothing needs escaping. */
function pdf(lines: string[]): Buffer {
  const drawn = lines.map((line, index) => `BT /F1 ${index === 0 ? 22 : 13} Tf 72 ${760 - index * 30} Td (${line}) Tj ET`).join("\n");
  const objects = [
    "<< /Type /Catalog /Pages 2 0 R >>",
    "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
    "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
    `<< /Length ${drawn.length} >>\nstream\n${drawn}\nendstream`,
    "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
  ];
  let out = "%PDF-1.4\n";
  const offsets = objects.map((object, index) => {
    const offset = out.length;
    out += `${index + 1} 0 obj\n${object}\nendobj\n`;
    return `${String(offset).padStart(10, "0")} 00000 n \n`;
  });
  const size = objects.length + 1;
  return Buffer.from(`${out}xref\n0 ${size}\n0000000000 65535 f \n${offsets.join("")}trailer\n<< /Size ${size} /Root 1 0 R >>\nstartxref\n${out.length}\n%%EOF\n`);
}

/** Entries over 1 KiB are deflated, smaller ones stored, so that readers meet both. */
function zip(entries: Record<string, Buffer>): Buffer {
  const locals: Buffer[] = [];
  const central: Buffer[] = [];
  let offset = 0;
  for (const [name, content] of Object.entries(entries)) {
    const deflated = content.length > 1024;
    const packed = deflated ? deflateRawSync(content, { level: 9 }) : content;
    const shared = Buffer.alloc(26);
    shared.writeUInt16LE(20, 0);
    shared.writeUInt16LE(0x0800, 2); // names are UTF-8
    shared.writeUInt16LE(deflated ? 8 : 0, 4);
    shared.writeUInt16LE((12 << 11) | (30 << 5), 6); // 12:30:00
    shared.writeUInt16LE(((2025 - 1980) << 9) | (11 << 5) | 7, 8);
    shared.writeUInt32LE(crc32(content), 10);
    shared.writeUInt32LE(packed.length, 14);
    shared.writeUInt32LE(content.length, 18);
    shared.writeUInt16LE(Buffer.byteLength(name), 22);
    const local = Buffer.concat([Buffer.from("PK\x03\x04"), shared, Buffer.from(name), packed]);
    const place = Buffer.alloc(14);
    place.writeUInt32LE(offset, 10);
    central.push(Buffer.concat([Buffer.from("PK\x01\x02"), Buffer.from([20, 0]), shared, place, Buffer.from(name)]));
    locals.push(local);
    offset += local.length;
  }
  const directory = Buffer.concat(central);
  const end = Buffer.alloc(22);
  end.write("PK\x05\x06", 0);
  end.writeUInt16LE(locals.length, 8);
  end.writeUInt16LE(locals.length, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...locals, directory, end]);
}

function gzip(content: Buffer): Buffer {
  const packed = gzipSync(content, { level: 9 });
  packed[9] = 255; // "unknown system": zlib would write the one it runs on
  return packed;
}

function tar(entries: Record<string, Buffer>): Buffer {
  const blocks = Object.entries(entries).flatMap(([name, content]) => {
    const header = Buffer.alloc(512);
    const octal = (value: number, length: number) => `${value.toString(8).padStart(length - 1, "0")}\0`;
    const fields: [number, string][] = [
      [0, name], [100, octal(0o644, 8)], [108, octal(0, 8)], [116, octal(0, 8)], [124, octal(content.length, 12)],
      [136, octal(DAY / 1000, 12)], [148, " ".repeat(8)], [156, "0"], [257, "ustar\x0000"],
    ];
    for (const [at, value] of fields) header.write(value, at, "latin1");
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
    return [header, content, Buffer.alloc((512 - (content.length % 512)) % 512)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

function uint32be(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(value);
  return out;
}
