import { describe, expect, test } from "vitest";
import { formatSources, otherSuite, ownSources, parseLines, parseStanzas } from "../../scripts/servers/apt-sources.ts";
import { parseDownloads } from "../../scripts/servers/debian-packages.ts";

const STANZAS = `Types: deb
# a comment in between
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/archive.gpg

Types: deb deb-src
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBGPL

Types: deb-src
URIs: http://mirror.example/debian
Suites: bookworm
Components: main

Enabled: no
Types: deb
URIs: http://elsewhere.example
Suites: bookworm
Components: main
`;

describe("the machine's apt sources", () => {
  test("are read from deb822 stanzas, without the disabled and the source-only ones", () => {
    const sources = parseStanzas(STANZAS);
    expect(sources.map(({ uris, suites }) => [uris, suites])).toEqual([
      [["http://mirror.example/debian"], ["bookworm", "bookworm-updates"]],
      [["http://mirror.example/security"], ["bookworm-security"]],
    ]);
  });

  test("keep a key that is written out in its lines", () => {
    const key = parseStanzas(STANZAS)[1]?.options["Signed-By"];
    expect(key?.split("\n").filter((line) => line.startsWith(" "))).toHaveLength(3);
    expect(parseStanzas(formatSources(parseStanzas(STANZAS)))).toEqual(parseStanzas(STANZAS));
  });

  test.each([
    ["deb http://mirror.example/debian bookworm main contrib", {}],
    ["  deb [ arch=amd64 signed-by=/a.gpg,/b.gpg ] http://mirror.example/debian bookworm main contrib # why", { "Signed-By": "/a.gpg /b.gpg" }],
    ["deb [trusted=yes] http://mirror.example/debian bookworm main contrib", { Trusted: "yes" }],
  ])("are read from the line %j", (line, options) => {
    expect(parseLines(line)).toEqual([
      { uris: ["http://mirror.example/debian"], suites: ["bookworm"], components: ["main", "contrib"], options },
    ]);
  });

  test.each(["# deb http://mirror.example/debian bookworm main", "deb-src http://mirror.example/debian bookworm main", ""])(
    "give nothing for the line %j", (line) => {
      expect(parseLines(line)).toEqual([]);
    },
  );

  test("are cut down to the distribution's own: no third parties, no discs, no backports", () => {
    const lines = `deb cdrom:[Debian]/ bookworm main
deb http://mirror.example/debian bookworm main non-free
deb http://mirror.example/debian bookworm-backports main
deb http://packages.example/node nodistro main
deb http://packages.example/docker bookworm stable`;
    expect(ownSources(parseLines(lines), "bookworm")).toEqual([
      { uris: ["http://mirror.example/debian"], suites: ["bookworm"], components: ["main"], options: {} },
    ]);
  });

  test("lead to another release on the same mirror with the same keys", () => {
    expect(otherSuite(parseStanzas(STANZAS), "bookworm", "trixie")).toEqual({
      uris: ["http://mirror.example/debian"], suites: ["trixie"], components: ["main"],
      options: { "Signed-By": "/usr/share/keyrings/archive.gpg" },
    });
  });

  test("lead nowhere when no mirror carries the machine's release", () => {
    expect(otherSuite(parseLines("deb http://packages.example/node nodistro main"), "bookworm", "trixie")).toBeUndefined();
  });
});

test("apt's list of downloads gives names and versions, with the epoch's colon back in place", () => {
  const printed = `Reading package lists...
'http://mirror.example/pool/r/redis-server_7.0_amd64.deb' redis-server_5%3a7.0.15-1~deb12u10_amd64.deb 72 SHA256:00
'http://mirror.example/pool/l/liblzf1_3.6-3_amd64.deb' liblzf1_3.6-3_amd64.deb 10 SHA256:00
`;
  expect(parseDownloads(printed)).toEqual([
    { name: "redis-server", version: "5:7.0.15-1~deb12u10" }, { name: "liblzf1", version: "3.6-3" },
  ]);
});
