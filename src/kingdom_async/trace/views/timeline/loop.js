// The head of the timeline: the ruler, who held the loop, and how late it answered.

const RULER = 24;
const MARKS = lints.count ? 18 : 0; // the warnings, where each is
const LOOP = 28;
const LAG = 24;
const LOOP_TOP = RULER + MARKS;
const LAG_TOP = LOOP_TOP + LOOP;
view.top = LAG_TOP + LAG + 5;

/** Why not all steps are there; null if they are. */
const hidesSteps = (() => {
  const others = () => Array.from({ length: tasks.count }, (_, i) => i).some(tasks.foreign);
  if (raw.level !== "steps" || !raw.backend.includes("uvloop") || !others()) return null;
  return "uvloop hides the steps of tasks that kingdom_async did not start: use KINGDOM_ASYNC_WATCHDOG=0.1, or --loop asyncio";
})();
const NOBODY = "nobody held it";
const aboutSteps = raw.level !== "steps" ? 'not recorded: that takes level "steps"' : hidesSteps ?? (steps.recorded ? null : NOBODY);

/** Distances of 1, 2 or 5 units between the lines of the ruler; where they are long, on the clock. */
function spacing() {
  const least = (view.to - view.from) / (plotWidth() / 110);
  if (least > 5) return CLOCK.find((step) => step >= least * 0.999) ?? Math.ceil(least / 86400) * 86400;
  const power = 10 ** Math.floor(Math.log10(least));
  return power * [1, 2, 5, 10].find((n) => n * power >= least * 0.999);
}

const CLOCK = [10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 18000, 36000, 86400];

function drawGrid() {
  const step = spacing();
  for (let n = Math.ceil(view.from / step); n * step <= view.to; n++) {
    box(color.line, Math.round(xOf(n * step)), RULER, 1, view.height);
  }
  flush();
}

const ticks = []; // what the ruler says, as drawn last

function drawHead() {
  box(color.panel, 0, 0, view.width, view.top);
  box(color["strong-line"], 0, view.top - 1, view.width, 1);
  flush();
  clipped(0, view.top - 1, () => {
    drawGrid();
    const step = spacing();
    ticks.length = 0;
    for (let n = Math.ceil(view.from / step); n * step <= view.to; n++) {
      const words = moment(n * step, step);
      const left = Math.round(xOf(n * step)) + 5;
      ink.font = `11px ${FONT}`;
      if (left + ink.measureText(words).width > view.width - 4) continue;
      text(words, left, RULER / 2 + 1, color.muted, `11px ${FONT}`);
      ticks.push(words);
    }
    drawMarks(RULER + MARKS / 2);
    drawLoop(LOOP_TOP + 2, LOOP - 5);
    drawLag(LAG_TOP, LAG);
  });
  headWords();
}

function headWords() {
  const small = `11px ${FONT}`;
  const row = (name, aside, y) => {
    text(name, 12, y, color.text);
    text(aside, GUTTER - 12, y, color.muted, small, "right");
  };
  if (MARKS) row("Warnings", grouped(lints.count), RULER + MARKS / 2);
  row("Loop held by", loopShare(view.from, view.to), LOOP_TOP + LOOP / 2);
  row("Loop lag", lagWords(), LAG_TOP + LAG / 2 + 1);
}

function loopShare(from, to) {
  if (!steps.count) return aboutSteps === NOBODY ? "0 %" : "not recorded";
  const isAll = steps.recorded > 0 && hidesSteps === null;
  return `${isAll ? "" : "at least "}${percent(busyShare(from, to))}`;
}

const FEW_LAGS = 5; // so few say nothing of the longest

function lagWords() {
  if (!lags.count) return "not measured";
  if (lags.count < FEW_LAGS && lags.longest < LONG) return `only ${plural(lags.count, "sample")}`;
  return `${lags.open ? "at least" : "up to"} ${duration(lags.longest)}`;
}

/** Every warning at its moment, so that those are seen whose rows are not. */
function drawMarks(y) {
  let last = -Infinity;
  for (let n = 0; n < lints.count; n++) {
    const x = xOf(lints.at[n]);
    if (x < GUTTER - 5 || x > view.width + 5 || x - last < 11) continue;
    sign("lint", x, y, 0.95);
    last = x;
  }
}

/** The warnings in the row of warnings that are at *x*, gravest first. */
function marksAt(x) {
  const near = [];
  for (let n = 0; n < lints.count; n++) if (Math.abs(xOf(lints.at[n]) - x) < 9) near.push(n);
  return near.sort((a, b) => gravityOf(lints.kind(a)) - gravityOf(lints.kind(b)) || badness(b) - badness(a));
}

/** Which part of a time the loop was held for. */
function busyShare(from, to) {
  let sum = 0;
  for (let n = firstWhere(steps.count, (n) => steps.to[n] > from); n < steps.count && steps.from[n] < to; n++) {
    sum += Math.min(steps.to[n], to) - Math.max(steps.from[n], from);
  }
  return Math.min(1, sum / (to - from));
}

function drawLoop(y, height) {
  const small = `11px ${FONT}`;
  if (raw.dropped.steps && steps.recorded) stretchOf(color.hatched, 0, steps.from[0], y, height);
  held(steps.count, (n) => n, y, height, color.error, "step-0");
  flush();
  if (!steps.recorded) sayWhere(aboutSteps, y + height / 2, small);
  const wide = 44 / scale();
  for (let n = firstWhere(steps.count, (n) => steps.to[n] > view.from); n < steps.count && steps.from[n] < view.to; n++) {
    if (steps.to[n] - steps.from[n] < wide) continue;
    const left = Math.max(xOf(steps.from[n]), GUTTER);
    const right = Math.min(xOf(steps.to[n]), view.width);
    text(cut(holderOf(n), right - left - 10, small, true), left + 5, y + height / 2 + 0.5, color.panel, small);
  }
}

/** Words in the widest place that no step takes. */
function sayWhere(words, y, font) {
  let [from, to, at] = [GUTTER, GUTTER, GUTTER];
  const end = view.width - MARGIN;
  for (let n = 0; n <= steps.count; n++) {
    const next = n < steps.count ? Math.min(end, Math.max(GUTTER, xOf(steps.from[n]))) : end;
    if (next - at > to - from) [from, to] = [at, next];
    if (n < steps.count) at = Math.min(end, Math.max(at, xOf(steps.to[n])));
  }
  text(cut(words, to - from - 16, font), from + 8, y, color.muted, font);
}

function holderOf(n) {
  if (steps.task[n] >= 0 && !steps.seen.get(n)?.guess) return tasks.name(steps.task[n]);
  if (steps.seen.has(n)) {
    const { lint, guess } = steps.seen.get(n);
    return `${/^(?:task )?'(.*?)' /.exec(lints.message(lint))?.[1] ?? "somebody"}${guess ? ", or who ran before" : ""}`;
  }
  return steps.serial[n] === null ? "a callback" : `task ${steps.serial[n]}, not kept`;
}

/** For each two pixels the longest lag: as high as it is long, and as wide as it lasted. */
function drawLag(y, height) {
  if (!lags.count) return;
  for (const [from, to] of silences) if (to > view.from && from < view.to) stretchOf(color.hatched, from, to, y + height - 7, 7);
  const most = Math.max(lags.longest, 1e-3);
  let last = -1;
  let highest = 0;
  const put = () => {
    if (last < 0) return;
    const tall = Math.max(1, (highest / most) * height);
    box(highest >= LONG ? color.error : color.density, last, y + height - tall, Math.max(2, highest * scale()), tall);
  };
  for (let n = firstWhere(lags.count, (n) => lags.at[n] >= view.from); n < lags.count && lags.at[n] <= view.to; n++) {
    const x = Math.floor(xOf(lags.at[n]));
    if (x > last + 1 || last < 0) {
      put();
      last = x;
      highest = 0;
    }
    highest = Math.max(highest, lags.length[n]);
  }
  put();
  flush();
}

/** A line at the pointer, with its time. */
function drawPointer() {
  const { pointer } = view;
  if (!pointer || pointer.x < GUTTER || pointer.x > GUTTER + plotWidth()) return;
  box(color.muted, Math.round(pointer.x), RULER, 1, view.height - RULER);
  flush();
  const words = moment(timeAt(pointer.x), spacing() / 100, spacing());
  const font = `600 11px ${FONT}`;
  ink.font = font;
  const width = ink.measureText(words).width + 12;
  const left = Math.min(Math.max(GUTTER, pointer.x - width / 2), view.width - width);
  box(color.text, left, 2, width, RULER - 5);
  flush();
  text(words, left + 6, RULER / 2, color.panel, font);
}

function drawAll() {
  const began = performance.now();
  drawn.primitives = drawn.texts.length = 0;
  ink.setTransform(view.ratio, 0, 0, view.ratio, 0, 0);
  ink.clearRect(0, 0, view.width, view.height);
  clipped(0, view.height, drawGrid);
  drawRows();
  box(color["strong-line"], GUTTER - 1, 0, 1, view.height);
  flush();
  if (!rows.length) text("No task ran while this was recorded.", GUTTER + plotWidth() / 2, view.top + 60, color.muted, undefined, "center");
  drawHead();
  box(color["strong-line"], GUTTER - 1, 0, 1, view.height);
  flush();
  drawScrollbar();
  drawPointer();
  drawOverview();
  byId("range").textContent = `${duration(view.to - view.from)} of ${duration(END)}`;
  drawn.times.push(performance.now() - began);
  if (drawn.times.length > 600) drawn.times.shift();
}
drawn.times = [];

function drawScrollbar() {
  const room = view.height - view.top;
  const all = tops[rows.length] + 12;
  if (all <= room) return;
  const tall = Math.max(24, (room / all) * room);
  const y = view.top + (view.scroll / (all - room)) * (room - tall);
  box(view.grabbed ? color.muted : color["strong-line"], view.width - 9, y + 2, 6, tall - 4);
  flush();
}
