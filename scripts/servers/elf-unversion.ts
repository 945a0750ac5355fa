/**
 * Makes a shared object that was built against a newer glibc loadable on an older one. 64-bit little-endian ELF only.
 *  - undefined symbols bound to a too new GLIBC_2.N lose that binding, so any version will do;
 *  - `__isoc23_strtol` and the like, which only newer glibcs have, become `strtol`: the name's start moves 9 bytes on
 *    in the same string table;
 *  - the need for the too new version is marked weak, so that the loader does not refuse the file.
 * Right only where the plain function does the same for the caller, as it does for TimescaleDB.
 */
const DYNAMIC_SYMBOLS = 11, VERSION_SYMBOLS = 0x6fffffff, VERSION_NEEDS = 0x6ffffffe;
const SYMBOL_BYTES = 24, VERSION_BYTES = 2;
const WEAK = 2, ANY_VERSION = 1, VERSION_MASK = 0x7fff;
const NEWER_C_PREFIX = "__isoc23_";

interface Section { type: number; offset: number; sizeBytes: number; link: number; info: number }

/** Changes `elf` in place. @returns what was changed, one symbol a line; empty when nothing needed it */
export function unversionElf(elf: Buffer, newestGlibcMinor: number): string[] {
  if (elf.length < 64 || elf.readUInt32BE(0) !== 0x7f454c46 || elf[4] !== 2 || elf[5] !== 1) {
    throw new Error("This is not a 64-bit little-endian ELF file.");
  }
  const sections = readSections(elf);
  const symbols = sections.find(({ type }) => type === DYNAMIC_SYMBOLS);
  const versions = sections.find(({ type }) => type === VERSION_SYMBOLS);
  const needs = sections.find(({ type }) => type === VERSION_NEEDS);
  const names = symbols && sections[symbols.link];
  if (!symbols || !versions || !needs || !names) return [];

  const tooNew = weakenNeeds(elf, needs, names.offset, newestGlibcMinor);
  const changes: string[] = [];
  for (let index = 0; index * SYMBOL_BYTES < symbols.sizeBytes; index++) {
    const versionAt = versions.offset + VERSION_BYTES * index;
    const version = tooNew.get(elf.readUInt16LE(versionAt) & VERSION_MASK);
    if (!version) continue;
    const symbolAt = symbols.offset + SYMBOL_BYTES * index;
    const nameAt = elf.readUInt32LE(symbolAt);
    const name = readName(elf, names.offset + nameAt);
    const plain = name.startsWith(NEWER_C_PREFIX) ? name.slice(NEWER_C_PREFIX.length) : name;
    elf.writeUInt32LE(nameAt + name.length - plain.length, symbolAt);
    elf.writeUInt16LE(ANY_VERSION, versionAt);
    changes.push(`${name}@${version} -> ${plain}`);
  }
  return changes;
}

function readSections(elf: Buffer): Section[] {
  const start = Number(elf.readBigUInt64LE(0x28));
  const entryBytes = elf.readUInt16LE(0x3a), count = elf.readUInt16LE(0x3c);
  return Array.from({ length: count }, (_, index) => {
    const at = start + index * entryBytes;
    return {
      type: elf.readUInt32LE(at + 4), offset: Number(elf.readBigUInt64LE(at + 0x18)),
      sizeBytes: Number(elf.readBigUInt64LE(at + 0x20)), link: elf.readUInt32LE(at + 0x28), info: elf.readUInt32LE(at + 0x2c),
    };
  });
}

/** Walks the linked lists of libraries and their versions. @returns too new versions by their index in the file */
function weakenNeeds(elf: Buffer, needs: Section, namesAt: number, newestGlibcMinor: number): Map<number, string> {
  const tooNew = new Map<number, string>();
  let libraryAt = needs.offset;
  for (let library = 0; library < needs.info; library++) {
    const count = elf.readUInt16LE(libraryAt + 2);
    let versionAt = libraryAt + elf.readUInt32LE(libraryAt + 8);
    for (let version = 0; version < count; version++) {
      const name = readName(elf, namesAt + elf.readUInt32LE(versionAt + 8));
      const minor = /^GLIBC_2\.(\d+)/.exec(name)?.[1];
      if (minor && Number(minor) > newestGlibcMinor) {
        tooNew.set(elf.readUInt16LE(versionAt + 6) & VERSION_MASK, name);
        elf.writeUInt16LE(elf.readUInt16LE(versionAt + 4) | WEAK, versionAt + 4);
      }
      versionAt += elf.readUInt32LE(versionAt + 12);
    }
    libraryAt += elf.readUInt32LE(libraryAt + 12);
  }
  return tooNew;
}

function readName(elf: Buffer, at: number): string {
  return elf.toString("latin1", at, elf.indexOf(0, at));
}
