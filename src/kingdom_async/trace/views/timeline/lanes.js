// The rows: names at the left, lifetimes with steps and spans at the right.

function drawRows() {
  const first = rowAt(view.top);
  const last = Math.min(rows.length, rowAt(view.height) + 1);
  drawBands(first, last);
  clipped(view.top, view.height, () => {
    for (let place = first; place < last; place++) drawLife(rows[place], yOf(place));
    flush();
    for (let place = first; place < last; place++) drawWork(rows[place], yOf(place));
    flush();
    drawLinks();
    if (view.row >= 5) for (let place = first; place < last; place++) drawSigns(rows[place], yOf(place));
    if (search.matches) veil(first, last);
  });
  if (view.row >= 9) for (let place = first; place < last; place++) drawName(rows[place], yOf(place));
  else drawOutline(first, last);
}

/** What is selected, pointed at, or found, lies on a band over the whole width. */
function drawBands(first, last) {
  for (let place = first; place < last; place++) {
    const node = rows[place];
    const band = node === view.selected ? color.selected : node === view.hover ? color.hover : null;
    if (band && view.row >= 5) box(band, 0, yOf(place), view.width, tops[place + 1] - tops[place]);
  }
  flush();
}

/** While something is searched for, the rest stands back. */
function veil(first, last) {
  for (let place = first; place < last; place++) {
    if (dimmed(rows[place])) box(color.veil, GUTTER, yOf(place), view.width - GUTTER, tops[place + 1] - tops[place]);
  }
  flush();
}

/** Where the bar of a row lies in its height. */
function bar(y) {
  const space = view.row >= 12 ? 4 : view.row >= 5 ? 1.5 : view.row >= 3 ? 1 : 0;
  return { y: y + space, height: view.row - (view.row < 5 ? space : 2 * space) };
}

const dimmed = (node) => search.matches !== null && !search.matches.has(node.task) && !(node.below && !node.open && hitsBelow(node));

function drawLife(node, y) {
  if (node.task < 0) return drawGroup(node, y);
  const i = node.task;
  const { y: top, height } = bar(y);
  const end = tasks.to[i];
  const first = tasks.started[i];
  const begun = first === first ? Math.max(first, tasks.from[i]) : tasks.neverRan(i) ? end : tasks.from[i];
  if (end >= view.from && tasks.from[i] <= view.to) {
    if (begun > tasks.from[i]) stretchOf(color.hatched, tasks.from[i], begun, top, height);
    if (!tasks.neverRan(i)) drawWaits(i, begun, end, top, height);
    if (view.row < 5 && tasks.outcome[i] === OUTCOME.error) box(color.error, xOf(end) - 3, top, 3, Math.max(1, height));
    if (view.row < 5 && tasks.outcome[i] === OUTCOME.cancelled) box(color.cancelled, xOf(end) - 2, top, 2, Math.max(1, height));
  }
  if (!node.open && node.below) drawDensity(node, y + tops[node.place + 1] - tops[node.place] - view.row, view.row - 3);
}

/** The bar of a task; frayed where it was there before the bar begins. */
function drawWaits(i, begun, end, top, height) {
  const left = xOf(Math.max(begun, 0));
  const right = Math.min(xOf(end), view.width + 2);
  if (!tasks.older(i) || view.row < 5 || left < GUTTER - 2 || right - left < 16) return stretchOf(color.wait, begun, end, top, height);
  for (const [x, wide] of [[0, 1], [3, 2], [7, 3]]) box(color.wait, left + x, top, wide, height);
  box(color.wait, left + 12, top, right - left - 12, height);
}

/** A box from one time to another, cut to what is in sight. */
function stretchOf(fill, from, to, y, height) {
  const left = Math.max(xOf(from), GUTTER - 2);
  const right = Math.min(Math.max(xOf(to), left + 1), view.width + 2);
  if (right > left) box(fill, left, y, right - left, height);
}

/** A group reaches from its first task to its last: a bracket; closed, its number of tasks. */
function drawGroup(node, y) {
  if (!node.open) return drawDensity(node, y + 2, tops[node.place + 1] - tops[node.place] - 4);
  if (view.row < 5) return;
  const { from, to } = summary(node);
  const middle = Math.round(y + view.row / 2);
  const left = Math.max(xOf(from), GUTTER - 4);
  const right = Math.min(xOf(to), view.width + 4);
  if (right < left) return;
  box(color["strong-line"], left, middle, right - left, 1);
  box(color["strong-line"], left, middle, 1, 5);
  box(color["strong-line"], right - 1, middle, 1, 5);
}

/** How many of the tasks in a closed node were alive, as a hill; in front of it what went wrong. */
function drawDensity(node, y, height) {
  const { times, counts, most, errors, lints: warned, long } = summary(node);
  if (!most) return;
  drawHill(times, counts, most, y, Math.max(1, height), color.density);
  const tall = Math.max(1, Math.round(height * 0.45));
  for (const n of long) {
    if (steps.to[n] < view.from || steps.from[n] > view.to) continue;
    const left = Math.max(xOf(steps.from[n]), GUTTER - 2);
    box(color.error, left, y + height - tall, Math.max(2, Math.min(xOf(steps.to[n]), view.width + 2) - left), tall);
  }
  if (view.row < 9) return;
  drawnLater("error", errors, y + 5);
  drawnLater("lint", warned, y + Math.max(5, height - 6));
}

function drawnLater(name, times, y) {
  let last = -Infinity;
  for (const at of times) {
    const x = xOf(at);
    if (x < GUTTER - 5 || x > view.width || x - last < 9) continue;
    later.push([name, x, y]);
    last = x;
  }
}

/** Columns as high as the greatest count in their pixel. */
function drawHill(times, counts, most, y, height, fill) {
  const start = firstWhere(times.length, (n) => times[n] >= view.from);
  let count = start > 0 ? counts[start - 1] : 0;
  const right = GUTTER + plotWidth();
  let x = GUTTER;
  for (let n = start; x < right; ) {
    const next = n < times.length && times[n] <= view.to ? Math.max(x, Math.floor(xOf(times[n]))) : right;
    column(x, next, count);
    if (next >= right) break;
    let highest = count;
    const edge = next + 1;
    while (n < times.length && xOf(times[n]) < edge) highest = Math.max(highest, (count = counts[n++]));
    column(next, edge, highest);
    x = edge;
  }
  function column(from, to, many) {
    const tall = (many / most) * height;
    if (to > from && many > 0) box(fill, from, y + height - tall, to - from, tall);
  }
}

const later = []; // signs of closed nodes, drawn over the hills

function drawWork(node, y) {
  const i = node.task;
  if (i < 0 || tasks.to[i] < view.from || tasks.from[i] > view.to) return;
  const { y: top, height } = bar(y);
  const mine = stepsOf(i);
  if (mine.length) held(mine.length, (k) => mine[k], top, height, color.error);
  if (laneCounts.get(i) ?? lanesOf(i)) drawSpans(i, y);
  for (const n of lintsOf(i)) {
    const x = xOf(lints.at[n]);
    if (view.row < 5) box(color.lint, x - 1, top, 2, Math.max(1, height));
  }
}

function drawSpans(i, y) {
  const roomy = isWide(tree.nodes[i]);
  const lane = LANE;
  const { y: top, height } = bar(y);
  const words = [];
  for (const n of spansOf(i)) {
    if (spans.to[n] < view.from || spans.from[n] > view.to) continue;
    const left = Math.max(xOf(spans.from[n]), GUTTER - 2);
    const right = Math.min(Math.max(xOf(spans.to[n]), left + 1), view.width);
    if (!roomy) {
      if (spans.lane[n] > 0 || view.row < 5) continue;
      const tall = Math.max(2, Math.round(height * 0.3));
      box(color["span-edge"], left, top + height - tall, Math.max(1, right - left - 1), tall);
      continue;
    }
    const at = y + view.row - 2 + spans.lane[n] * lane;
    const failed = spans.outcome[n] === OUTCOME.error;
    box(failed ? color.error : color["span-edge"], left, at, Math.min(2, right - left), lane - 1);
    if (right - left > 2) box(color.span, left + 2, at, right - left - 2, lane - 1);
    if (right - left > 34) words.push([n, left, right, at + (lane - 1) / 2]);
  }
  if (!words.length) return;
  flush();
  const font = `10px ${FONT}`;
  for (const [n, left, right, at] of words) text(cut(spans.name(n), right - left - 9, font), left + 6, at + 0.5, color["span-text"], font);
}

function drawSigns(node, y) {
  const i = node.task;
  if (i >= 0) {
    const { y: top, height } = bar(y);
    const size = Math.min(1, Math.max(0.55, view.row / 18));
    const x = Math.max(xOf(tasks.to[i]) + 8 * size, xOf(tasks.from[i]) + 1 + 8 * size);
    const outcome = outcomeOf(i);
    const near = view.row >= 12 || outcome !== "ok";
    const open = tasks.ended[i] !== tasks.ended[i];
    if (near && x > GUTTER && x < view.width + 6 && !(open && view.to < END)) sign(outcome, x, top + height / 2, size);
    let last = -Infinity;
    for (const n of lintsOf(i)) {
      const at = xOf(lints.at[n]);
      if (at < GUTTER - 5 || at > view.width + 5 || at - last < 11 * size) continue;
      sign("lint", at, top + Math.min(4, height / 2), size);
      last = at;
    }
  }
  while (later.length) sign(...later.pop(), 0.9);
}

/** At the right of a name: how long a task lasted, how many are in a row for several. */
function besides(node) {
  const hits = node.below && !node.open ? hitsBelow(node) : 0;
  const many = hits ? `${grouped(hits)} of ${grouped(node.below)}` : grouped(node.below);
  if (node.task < 0) return node.family && !hits ? `× ${grouped(node.children.length)}` : many;
  const lasted = duration(tasks.to[node.task] - Math.max(0, tasks.from[node.task]));
  return !node.open && node.below ? `${hits ? "" : "+"}${many} · ${lasted}` : lasted;
}

const INDENT = 12;
const depthOf = (node) => Math.min(node.depth, 9);

function drawName(node, y) {
  const height = view.row;
  const middle = y + (node.task < 0 ? tops[node.place + 1] - tops[node.place] : height) / 2;
  if (middle < view.top - height) return;
  const left = 12 + depthOf(node) * INDENT;
  const size = Math.max(8, Math.min(12, view.row - 6));
  if (node.children.length) {
    ink.fillStyle = color.muted;
    ink.beginPath();
    const turned = node.open ? [-3.5, -2, 3.5, -2, 0, 2.8] : [-2, -3.5, -2, 3.5, 2.8, 0];
    for (let n = 0; n < 6; n += 2) ink.lineTo(left + turned[n], middle + turned[n + 1]);
    ink.fill();
    drawn.primitives++;
  }
  const plain = `${node.task < 0 && !node.family ? "italic " : node === view.selected ? "600 " : ""}${size}px ${FONT}`;
  const small = `${Math.max(8, size - 1)}px ${FONT}`;
  const aside = besides(node);
  ink.font = small;
  const room = GUTTER - left - 10 - ink.measureText(aside).width - 18;
  const words = cut(node.task < 0 ? shortGroup(node) : nameOf(node), room, plain, true);
  if (search.matches?.has(node.task) || (node.below && !node.open && hitsBelow(node))) {
    ink.font = plain;
    box(color.hit, left + 7, middle - size / 2 - 2, ink.measureText(words).width + 6, size + 4);
    flush();
  }
  ink.globalAlpha = dimmed(node) ? 0.42 : 1;
  text(words, left + 10, middle, node.task < 0 && !node.family ? color.muted : color.text, plain);
  text(aside, GUTTER - 12, middle, color.muted, small, "right");
  ink.globalAlpha = 1;
}

/** "TaskGroup at a.py:1 in main" → "TaskGroup a.py:1": the rest stands in the row above. */
function shortGroup(node) {
  return node.group.replace(/ at (\S+:\d+) in \S+$/, " $1");
}

/** Rows too low for names: their depth, so that the shape of the tree is seen. */
function drawOutline(first, last) {
  for (let place = first; place < last; place++) {
    const node = rows[place];
    const left = 12 + depthOf(node) * INDENT;
    const fill = search.matches !== null && !dimmed(node) ? color.accent : node === view.selected ? color.text : color["strong-line"];
    box(fill, left, yOf(place), node.task < 0 ? 120 : 60, Math.max(1, view.row - 1));
  }
  flush();
}
