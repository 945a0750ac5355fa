/**
 * Where file-type 21 looks first, and the first two bytes it wants to find there (one where its signature has but one).
 * Signatures that it only looks at after one of these has matched are not in it. test/objects/magic.test.ts reads the
 * signatures out of the installed file-type and fails when one is missing here.
 */
const FIRST_LOOKS: Record<number, string> = {
  0: `0000 0001 0061 0400 0422 0606 060e 0b77 1a45 1f8b 1f9d 1fa0 213c 2142 2321 2446 2521 2550 28b5 2d2d 2e52 3026 3037 377a
    3842 3c3f 4143 4152 4245 424c 424d 4250 425a 4372 4452 4453 4578 464c 464f 4655 47 4749 4944 4949 494d 4953 4954 4b61 4c00
    4c5a 4d41 4d4d 4d50 4d53 4d54 4d5a 4e45 4f54 4f62 4f67 5041 504b 5245 5249 5261 5351 5745 60ea 626f 664c 6769 676c 6963 7265
    736f 7474 774f 7776 7801 7b5c 7e10 7e18 7f45 8950 a1b2 ab4b c5d0 c771 cafe cefa cffa d0cf d4c3 edab efbb fd37 feed feff ff`,
  1: "5753",
  2: "270a 2d6c",
  4: "0001 304d 4f54 6672 6674 6d64 6d6f 7769",
  7: "2a2a",
  8: "4156 514c 5741 5745",
  34: "4c50",
  36: "6163",
  44: "5343",
  60: "424f",
  128: "4449",
  196: "47",
  257: "0000 7573",
};

const SINGLE = 0x1_0000; // of a signature with one byte: any second byte will do
const looks = Object.entries(FIRST_LOOKS).map(([offset, signatures]) => {
  const wanted = new Uint8Array(SINGLE);
  for (const signature of signatures.split(/\s+/)) {
    const first = Number.parseInt(signature, 16);
    if (signature.length === 4) wanted[first] = 1;
    else wanted.fill(1, first << 8, (first + 1) << 8);
  }
  return { offset: Number(offset), wanted };
});

/**
 * False: file-type would find nothing in these bytes, so it need not be asked. It takes ten microseconds and some
 * kilobytes of garbage to find nothing in unknown binary data; this takes a tenth of one.
 */
export function mayHaveMagic(bytes: Uint8Array): boolean {
  return looks.some(({ offset, wanted }) => offset + 1 < bytes.length && wanted[(bytes[offset]! << 8) | bytes[offset + 1]!] === 1);
}
