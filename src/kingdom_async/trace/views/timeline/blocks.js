// What the watchdog saw: from when to when the loop was blocked. It tells of a block while it
// lasts, and of its length once it is over. Where the recording ended before, the end is in the
// answer to a ping, in a step, or nowhere. Where no step tells of a block, it becomes one.

const HELD = /\b(?:has held the loop|held the loop) for ([\d.]+(?:e[+-]?\d+)?) s\b/;
const STOOD = /\bafter ([\d.]+(?:e[+-]?\d+)?) s in which no thread could run\b/; // who did it is a guess

const blocks = (() => {
  const found = [];
  for (let n = 0; n < lints.count; n++) {
    const said = lints.kind(n) === "blocked-loop" ? HELD.exec(lints.message(n)) ?? STOOD.exec(lints.message(n)) : null;
    if (said === null || Number.isNaN(lints.at[n])) continue;
    const from = Math.max(0, lints.at[n] - Number(said[1]));
    const guess = !HELD.test(lints.message(n));
    const ends = said[0].startsWith("has ") ? endOfBlock(lints.at[n]) : guess ? { to: lints.at[n], sure: true } : wholeBlock(lints.at[n], Number(said[1]));
    found.push({ lint: n, from, said: Number(said[1]), guess, ...ends });
  }
  return found;
})();

/** When the block was over that lasted at *at*; `sure` if the recording tells, `open` if it lasted to its end. */
function endOfBlock(at) {
  let over = at;
  const lag = lastUntil(lags.at, lags.count, at);
  if (lag >= 0) over = Math.max(over, lags.at[lag] + lags.length[lag]);
  const step = lastUntil(steps.from, steps.count, at);
  if (steps.to[step] > at) return { from: steps.from[step], to: steps.to[step], sure: true };
  // A ping that was under way, and that is counted from later on: the process stood still meanwhile.
  if (over === at && lags.length[lag + 1] >= LONG / 2) over = lags.at[lag + 1] + lags.length[lag + 1];
  if (over > at) return { to: over, sure: true };
  const ran = (times) => times.some((time) => time > at && time < END - 1e-3);
  const wentOn = lags.at[lag + 1] > at || steps.from[step + 1] > at || ran(tasks.started) || ran(tasks.ended);
  return wentOn ? { to: at, sure: false } : { to: END, sure: false, open: true };
}

/** From when to when a block of so many seconds was that lasted at *at*, early in it. */
function wholeBlock(at, seconds) {
  const seen = endOfBlock(at);
  const to = seen.sure ? seen.to : Math.min(END, at + seconds);
  return { from: Math.max(0, seen.from ?? to - seconds), to, sure: true };
}

function lastUntil(times, count, at) {
  return firstWhere(count, (n) => times[n] > at) - 1;
}

/** The parts of a block for which no step is there. */
function unseen({ from, to }) {
  const parts = [];
  let at = from;
  for (let n = firstWhere(steps.count, (n) => steps.to[n] > from); n < steps.count && steps.from[n] < to; n++) {
    parts.push([at, steps.from[n]]);
    at = Math.max(at, steps.to[n]);
  }
  parts.push([at, to]);
  return parts.filter(([a, b]) => b - a > (to - from) / 2);
}

steps.seen = new Map(); // by number of the step: the block that it stands for
{
  const added = blocks.flatMap((block) => unseen(block).map(([from, to]) => ({ from, to, block })));
  added.sort((a, b) => a.from - b.from);
  if (added.length) steps = merged(steps, added);
  const open = blocks.find((block) => block.open && lastUntil(lags.at, lags.count, block.from + 1e-3) === lags.count - 1);
  if (open && lags.count) {
    lags = { count: lags.count + 1, at: Float64Array.of(...lags.at, open.from), length: Float64Array.of(...lags.length, END - open.from), open: true };
  }
}
lags.longest = lags.length.reduce((most, length) => Math.max(most, length), 0);

function merged(old, added) {
  const count = old.count + added.length;
  const made = { count, recorded: old.recorded, from: new Float64Array(count), to: new Float64Array(count), task: new Int32Array(count), serial: new Array(count), seen: new Map() };
  for (let n = 0, a = 0, b = 0; n < count; n++) {
    const ours = b < added.length && (a === old.count || added[b].from < old.from[a]);
    if (ours) {
      const { from, to, block } = added[b++];
      [made.from[n], made.to[n], made.task[n], made.serial[n]] = [from, to, lints.task[block.lint], null];
      made.seen.set(n, block);
    } else {
      [made.from[n], made.to[n], made.task[n], made.serial[n]] = [old.from[a], old.to[a], old.task[a], old.serial[a]];
      a++;
    }
  }
  return made;
}

const blockOf = new Map(blocks.map((block) => [block.lint, block]));

/** How long a block was, in words. */
function blockLength(block) {
  return `${block.sure ? "" : "at least "}${duration(block.to - block.from)}`;
}

/** What a lint says; of a block, how long it was and not how long it had been. */
function sentence(n) {
  const message = lints.message(n) ?? "";
  const block = blockOf.get(n);
  if (!block || block.to - block.from < block.said * 1.01) return message;
  const has = block.sure ? "held" : "has held";
  return message.replace(HELD, () => `${has} the loop for ${blockLength(block)}`);
}

// Stretches in which nobody asked the loop: nothing is known of them, and so they are not left white.
const silences = (() => {
  const found = [];
  if (lags.count < 10) return found;
  const pauses = Float64Array.from({ length: lags.count - 1 }, (_, n) => lags.at[n + 1] - lags.at[n] - lags.length[n]);
  const usual = pauses.slice().sort()[pauses.length >> 1];
  const gap = (from, to) => to - from > Math.max(0.5, 8 * usual) && found.push([from, to]);
  gap(0, lags.at[0]);
  for (let n = 0; n + 1 < lags.count; n++) gap(lags.at[n] + lags.length[n], lags.at[n + 1]);
  gap(lags.at[lags.count - 1] + lags.length[lags.count - 1], END);
  return found;
})();
