// What a screen reader is told: changes of state, gathered, never figures. Two thousand files must not be two thousand sentences.
const QUIET_MS = 700; // without news before it speaks
const APART_MS = 4_000;
const MOST_BY_NAME = 2; // more of one kind are counted

export function createVoice(region) {
  let news = new Map(); // kind -> names
  let timer;
  let spokeAt = -APART_MS;

  return {
    /** @param kind  "stored": becomes "a.txt: stored." or "12 files stored." */
    tell(kind, name) {
      if (!news.has(kind)) news.set(kind, []);
      news.get(kind).push(name);
      plan();
    },
    /** A sentence of its own, at once. */
    say(sentence) {
      clearTimeout(timer);
      speak(sentence);
      if (news.size > 0) plan();
    },
  };

  function plan() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const told = news;
      news = new Map();
      speak([...told].map(([kind, names]) => (
        names.length <= MOST_BY_NAME ? names.map((name) => `${name}: ${kind}.`).join(" ") : `${names.length} files: ${kind}.`
      )).join(" "));
    }, Math.max(QUIET_MS, spokeAt + APART_MS - performance.now()));
  }

  function speak(sentence) {
    spokeAt = performance.now();
    region.textContent = sentence;
  }
}
