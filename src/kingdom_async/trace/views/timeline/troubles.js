// What looks wrong, by kind, gravest first. The order is that of what to look at first: a late
// first run is seldom the illness, and often a sign of the long step beside it.

const GRAVEST_FIRST = [
  "blocked-loop", "stuck", "leaking", "swallowed-cancellation", "cancelled-but-alive", "spinning",
  "never-yielded", "long-step", "deadline-overrun", "late-first-run",
];
/** What is most often a sign of something else. */
const isMinor = (kind) => kind === "late-first-run";
const gravityOf = (kind) => (GRAVEST_FIRST.indexOf(kind) + GRAVEST_FIRST.length + 1) % (GRAVEST_FIRST.length + 1);

/** How bad one is among its kind: the first number of seconds, or of anything, that it names. */
function badness(n) {
  if (blockOf.has(n)) return blockOf.get(n).to - blockOf.get(n).from;
  const message = (lints.message(n) ?? "").replace(/'.*?'|\(.*?\)/g, "");
  return Number((/(\d[\d.]*(?:e[+-]?\d+)?) s\b/.exec(message) ?? /(\d[\d.]*)/.exec(message) ?? [])[1] ?? 0) || 0;
}

/** For each kind of lint: all of it in the order of time, and the worst. */
const troubles = (() => {
  const kinds = new Map();
  for (let n = 0; n < lints.count; n++) {
    const kind = lints.kind(n);
    if (!kinds.has(kind)) kinds.set(kind, { kind, all: [], worst: n, most: -1, at: -1 });
    const trouble = kinds.get(kind);
    trouble.all.push(n);
    const bad = badness(n);
    if (bad > trouble.most) Object.assign(trouble, { worst: n, most: bad });
  }
  return [...kinds.values()].sort((a, b) => gravityOf(a.kind) - gravityOf(b.kind) || b.all.length - a.all.length);
})();

/** The row that a lint is about: that of its task, or the one of most tasks from its line. */
function rowOf(n) {
  if (lints.task[n] >= 0) return tree.nodes[lints.task[n]];
  const place = lints.kind(n) === "leaking" ? lints.place(n) : null;
  if (place === null) return null;
  const many = new Map();
  for (let i = 0; i < tasks.count; i++) {
    if (tasks.place(i) !== place) continue;
    const up = tree.nodes[i].up;
    const row = up.depth >= 0 && up.task < 0 ? up : tree.nodes[i];
    many.set(row, (many.get(row) ?? 0) + 1);
  }
  return [...many].sort(([, a], [, b]) => b - a)[0]?.[0] ?? null;
}

/** To the row of a lint, and its moment. */
function goTo(n) {
  const node = rowOf(n);
  if (node) select(node);
  const block = blockOf.get(n);
  const [from, to] = block ? [block.from, block.to] : [lints.at[n], lints.at[n]];
  if (to < view.from || from > view.to || !node) {
    const width = Math.max(view.to - view.from, (to - from) * 1.5);
    const middle = (from + to) / 2;
    show(middle - width / 2, middle + width / 2);
  }
  say(`${lints.kind(n)}: ${sentence(n)}`);
}

/** What a lint says in a few words: the task, and how long. */
function shortly(n) {
  const kind = lints.kind(n);
  const said = sentence(n);
  const who = lints.task[n] >= 0 ? tasks.name(lints.task[n]) : /^task '(.*?)' /.exec(said)?.[1] ?? null;
  if (TIMED.has(kind)) return [who, blockOf.has(n) ? blockLength(blockOf.get(n)) : duration(badness(n))].filter(Boolean).join(" · ");
  if (kind === "leaking" && lints.place(n)) return `${grouped(badness(n))} from ${lints.place(n)}`;
  return kind === "swallowed-cancellation" && who !== null ? who : said;
}

const TIMED = new Set(["blocked-loop", "long-step", "never-yielded", "deadline-overrun", "late-first-run"]);
