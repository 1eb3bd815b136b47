// What is in sight: the span of time, the rows, and the size of the canvas.

const GUTTER = innerWidth >= 1300 ? 316 : innerWidth >= 900 ? 268 : 232; // px for the names
const SHORTEST = 2e-6; // seconds over the whole width
const LOWEST = 1;
const HIGHEST = 40;
const ROW = 19;
const LEGIBLE = 13; // the lowest row in which a name is easy to read
const LANE = 13; // px for a lane of spans, below the bar of a task
const MARGIN = 26; // px at the right, for the signs of tasks that still run

const view = { from: 0, to: END, scroll: 0, row: ROW, width: 0, height: 0, top: 0, selected: null, hover: null, pointer: null };
let rows = []; // the nodes in sight or scrolled away, in order
let tops = new Float64Array(1); // the top of each, and at last the height of all

const laneCounts = new Map();

/** How many lanes the spans of a task need, one inside the other; three at most. */
function lanesOf(i) {
  if (spansOf(i).length === 0) return 0;
  if (!laneCounts.has(i)) {
    const ends = [];
    let most = 1;
    for (const n of spansOf(i)) {
      while (ends.length && ends[ends.length - 1] <= spans.from[n]) ends.pop();
      spans.lane ??= new Uint8Array(spans.count);
      spans.lane[n] = Math.min(2, ends.length);
      ends.push(spans.to[n]);
      most = Math.max(most, Math.min(3, ends.length));
    }
    laneCounts.set(i, most);
  }
  return laneCounts.get(i);
}

function heightOf(node) {
  const closed = !node.open && node.below > 0;
  if (node.task < 0) return closed ? Math.max(view.row * 1.6, 3) : view.row;
  return view.row + (isWide(node) ? LANE * lanesOf(node.task) + 2 : 0) + (closed ? view.row : 0);
}

/** Whether the spans of a task have lanes of their own; else they lie inside its bar. */
function isWide(node) {
  return view.row >= 30 || (node === view.selected && view.row >= LEGIBLE);
}

/** Call after rows were opened or closed, or their height was changed. */
function layOut() {
  rows = [];
  for (const node of tree.everything) node.place = -1;
  const waiting = [...tree.top.children].reverse();
  while (waiting.length) {
    const node = waiting.pop();
    node.place = rows.length;
    rows.push(node);
    if (node.open) for (let n = node.children.length - 1; n >= 0; n--) waiting.push(node.children[n]);
  }
  tops = new Float64Array(rows.length + 1);
  for (let n = 0; n < rows.length; n++) tops[n + 1] = tops[n] + heightOf(rows[n]);
  keepInside();
  redraw();
}

/** The place of the row at a height of the canvas; may be past the last. */
function rowAt(y) {
  const at = y - view.top + view.scroll;
  return firstWhere(rows.length, (n) => tops[n + 1] > at);
}

const plotWidth = () => Math.max(1, view.width - GUTTER - MARGIN);
const scale = () => plotWidth() / (view.to - view.from);
const xOf = (time) => GUTTER + (time - view.from) * scale();
const timeAt = (x) => view.from + (x - GUTTER) / scale();
const yOf = (place) => Math.round(view.top + tops[place] - view.scroll); // on whole pixels, words are sharp

function keepInside() {
  const width = Math.min(Math.max(view.to - view.from, SHORTEST), END);
  view.from = Math.min(Math.max(view.from, 0), END - width);
  view.to = view.from + width;
  const most = tops[rows.length] + 12 - (view.height - view.top);
  view.scroll = Math.max(0, Math.min(view.scroll, most));
}

function show(from, to) {
  view.from = from;
  view.to = to;
  keepInside();
  redraw();
}

/** Zooms time by a factor, so that what is at *x* stays there. */
function zoom(factor, x = GUTTER + plotWidth() / 2) {
  const at = timeAt(x);
  const width = Math.min(Math.max((view.to - view.from) * factor, SHORTEST), END);
  const share = (x - GUTTER) / plotWidth();
  show(at - share * width, at + (1 - share) * width);
}

function pan(share) {
  const by = (view.to - view.from) * share;
  show(view.from + by, view.to + by);
}

function scrollBy(pixels) {
  view.scroll += pixels;
  keepInside();
  redraw();
}

/** Makes rows higher or lower, so that what is at *y* stays there. */
function stretch(factor, y = view.top) {
  const place = Math.min(rowAt(y), rows.length - 1);
  const before = yOf(Math.max(0, place));
  view.row = Math.min(HIGHEST, Math.max(LOWEST, view.row * factor));
  layOut();
  if (place >= 0) scrollBy(yOf(place) - before);
}

/** All rows at once, as far as rows of *least* pixels allow. */
function fitRows(least = LOWEST) {
  view.row = ROW;
  layOut();
  const room = view.height - view.top - 12;
  for (let tries = 0; tries < 8 && tops[rows.length] > room && view.row > least; tries++) {
    view.row = Math.max(least, Math.min(view.row * 0.97, (view.row * room) / tops[rows.length]));
    layOut();
  }
}

/** Brings a row into sight, and its task's time too. */
function bringIntoSight(node) {
  if (reveal(node) || node.place < 0) layOut();
  const y = tops[node.place];
  const room = view.height - view.top;
  if (y < view.scroll + 4 || tops[node.place + 1] > view.scroll + room - 16) view.scroll = y - room / 3;
  const { from, to } = extent(node);
  if (to < view.from || from > view.to) {
    const width = view.to - view.from;
    show((from + to - width) / 2, (from + to + width) / 2);
  }
  keepInside();
  redraw();
}

function extent(node) {
  return node.task >= 0 ? { from: tasks.from[node.task], to: tasks.to[node.task] } : summary(node);
}

function zoomTo(node) {
  const { from, to } = extent(node);
  const margin = Math.max((to - from) * 0.12, SHORTEST);
  show(from - margin, to + margin);
}

let asked = false;

/** Draws once in the next frame, however often it is called. */
function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    drawAll();
  });
}
