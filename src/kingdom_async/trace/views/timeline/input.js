// Pointer, wheel, fingers and keys.

const canvas = byId("timeline");
const KEYS = [
  ["← →", "pan; with Shift by a screen"],
  ["+ −", "zoom at the middle; the wheel and two fingers zoom at the pointer"],
  ["0 or Home", "the whole recording"],
  ["↑ ↓", "the row above, the row below"],
  ["Enter", "open or close the selected row"],
  ["Page up, down", "scroll; so do Shift + wheel, and the wheel over the names"],
  ["[ ]", "lower or higher rows; so does Alt + wheel"],
  ["f", "zoom to the selected row"],
  ["/", "find a task; Enter to the next one, Shift + Enter to the one before"],
  ["Esc", "close what is open"],
];

/** The colours once more: where the page is narrow, they stand nowhere else. */
function legend() {
  const copy = document.querySelector(".legend").cloneNode(true);
  copy.querySelector("#long").removeAttribute("id");
  return copy;
}

function nodeAt(y) {
  return y < view.top ? null : rows[rowAt(y)] ?? null;
}

function toggle(node) {
  if (!node.children.length) return;
  node.open = !node.open;
  layOut();
}

function openAll(open) {
  for (const node of tree.everything) if (node.task < 0 || open) node.open = open;
  layOut();
}

function moveSelection(way) {
  const place = view.selected && view.selected.place >= 0 ? view.selected.place + way : Math.max(0, rowAt(view.top));
  const node = rows[Math.min(rows.length - 1, Math.max(0, place))];
  if (node) select(node);
}

const page_ = () => (view.height - view.top) * 0.85;
const ON_KEY = {
  ArrowLeft: (event) => pan(event.shiftKey ? -0.9 : -0.12),
  ArrowRight: (event) => pan(event.shiftKey ? 0.9 : 0.12),
  ArrowUp: () => moveSelection(-1),
  ArrowDown: () => moveSelection(1),
  PageUp: () => scrollBy(-page_()),
  PageDown: () => scrollBy(page_()),
  "+": () => zoom(0.67),
  "=": () => zoom(0.67),
  "-": () => zoom(1.5),
  0: () => show(0, END),
  Home: () => show(0, END),
  "[": () => stretch(0.8),
  "]": () => stretch(1.25),
  f: () => view.selected && zoomTo(view.selected),
  Enter: () => view.selected && toggle(view.selected),
  "/": () => byId("search").select(),
  "?": () => showKeys(),
  Escape: () => (byId("keys").hidden ? view.selected ? select(null) : searchFor("") : showKeys()),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const inField = event.target.closest("input");
  const onButton = event.target.closest("button, [role=tabpanel]");
  const moving = event.key.startsWith("Arrow") || event.key.startsWith("Page") || event.key === "Home" || event.key === "Enter";
  if (inField || (onButton && moving) || !ON_KEY[event.key]) return;
  event.preventDefault();
  ON_KEY[event.key](event);
}

function showKeys() {
  const keys = byId("keys");
  keys.hidden = !keys.hidden;
  byId("help").setAttribute("aria-expanded", String(!keys.hidden));
}

function onWheel(event) {
  event.preventDefault();
  const unit = event.deltaMode === 1 ? 16 : 1;
  const [dx, dy] = [event.deltaX * unit, event.deltaY * unit];
  if (event.altKey) stretch(Math.exp(-(dy || dx) * 0.002), event.offsetY);
  else if (event.ctrlKey) zoom(Math.exp(dy * 0.01), event.offsetX);
  else if (event.shiftKey || event.offsetX < GUTTER) scrollBy(dy || dx);
  else if (Math.abs(dx) > Math.abs(dy)) pan(dx / plotWidth());
  else zoom(Math.exp(dy * 0.0015), event.offsetX);
  byId("tip").hidden = true;
}

const fingers = new Map();

function onDown(event) {
  canvas.focus({ preventScroll: true });
  canvas.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
  view.grabbed = event.offsetX > view.width - 14 && event.offsetY > view.top;
  view.pressed = { x: event.offsetX, y: event.offsetY, moved: false };
  byId("tip").hidden = true;
}

function onMove(event) {
  const finger = fingers.get(event.pointerId);
  if (!finger) return hover(event);
  const before = [...fingers.values()].map(({ x }) => x);
  const [dx, dy] = [event.offsetX - finger.x, event.offsetY - finger.y];
  Object.assign(finger, { x: event.offsetX, y: event.offsetY });
  if (Math.hypot(event.offsetX - view.pressed.x, event.offsetY - view.pressed.y) > 4) view.pressed.moved = true;
  if (!view.pressed.moved) return;
  canvas.classList.add("dragged");
  if (fingers.size === 2) pinch(before, [...fingers.values()].map(({ x }) => x));
  else if (view.grabbed) scrollBy((dy * (tops[rows.length] + 12)) / (view.height - view.top));
  else {
    pan(-dx / plotWidth());
    scrollBy(-dy);
  }
}

function pinch([a, b], [c, d]) {
  const middle = (c + d) / 2;
  if (Math.abs(d - c) > 8) zoom(Math.abs(b - a) / Math.abs(d - c), middle);
  pan(((a + b) / 2 - middle) / plotWidth());
}

function onUp(event) {
  fingers.delete(event.pointerId);
  canvas.classList.remove("dragged");
  view.grabbed = false;
  if (event.type === "pointerup" && view.pressed && !view.pressed.moved) click(event);
  redraw();
}

function click(event) {
  const node = nodeAt(event.offsetY);
  if (!node) {
    const mark = event.offsetY > RULER && event.offsetY < LOOP_TOP ? marksAt(event.offsetX)[0] : undefined;
    if (mark !== undefined) goTo(mark);
    if (event.offsetY > LOOP_TOP && event.offsetY < LAG_TOP) selectHolder(event.offsetX);
    return;
  }
  const left = 12 + depthOf(node) * INDENT;
  if (event.offsetX < GUTTER && Math.abs(event.offsetX - left) < 9) toggle(node);
  else select(node, { look: false });
}

/** The step in the row of the loop that is at *x*, or -1. */
function stepAt(x, pixels = 1.5) {
  const time = timeAt(x);
  const slack = pixels / scale();
  const n = firstWhere(steps.count, (n) => steps.to[n] >= time - slack);
  return n < steps.count && steps.from[n] <= time + slack ? n : -1;
}

function selectHolder(x) {
  const n = stepAt(x);
  if (n >= 0 && steps.task[n] >= 0) select(tree.nodes[steps.task[n]]);
}

function hover(event) {
  view.pointer = { x: event.offsetX, y: event.offsetY };
  view.hover = nodeAt(event.offsetY);
  const words = tipFor(view.pointer);
  const tip = byId("tip");
  tip.hidden = words === null;
  if (words) {
    tip.replaceChildren(...words.map((row, n) => el(n ? "div" : "b", {}, row)));
    const left = Math.min(event.offsetX + 14, view.width - tip.offsetWidth - 8);
    const below = event.offsetY + 18 + tip.offsetHeight < view.height;
    tip.style.transform = `translate(${Math.max(4, left)}px, ${below ? event.offsetY + 18 : event.offsetY - tip.offsetHeight - 8}px)`;
  }
  redraw();
}

/** What is under the pointer in the head of the timeline. */
function tipForHead({ x, y }) {
  if (y < RULER) return null;
  if (y < LOOP_TOP) {
    const marks = x > GUTTER ? marksAt(x) : [];
    const more = marks.length > 6 ? [`and ${marks.length - 6} more`] : [];
    return marks.length ? [marks.length > 1 ? plural(marks.length, "warning") : lints.kind(marks[0]), ...marks.slice(0, 6).map(sentence), ...more] : null;
  }
  if (y < LAG_TOP) {
    if (x < GUTTER) return aboutSteps === null ? null : ["Loop held by", aboutSteps];
    if (raw.dropped.steps && steps.recorded && timeAt(x) < steps.from[0]) return ["Not kept", "the steps from here were dropped"];
    const n = stepAt(x);
    return n < 0 ? null : [holderOf(n), steps.seen.has(n) ? `held the loop for ${blockLength(steps.seen.get(n))}, the watchdog says` : `held the loop for ${duration(steps.to[n] - steps.from[n])}`];
  }
  if (x < GUTTER) return ["Loop lag", "how long the loop took to answer a watchdog's ping"];
  const gap = silences.find(([from, to]) => timeAt(x) >= from && timeAt(x) <= to);
  return gap ? ["No ping", `for ${duration(gap[1] - gap[0])} nobody asked the loop: no watchdog was on, or no thread could run`] : null;
}

/** What is under the pointer, in lines; the first is the name. */
function tipFor({ x, y }) {
  if (y < view.top) return tipForHead({ x, y });
  const node = nodeAt(y);
  if (!node) return null;
  if (node.task < 0) return [node.group, node.family ? `${plural(node.children.length, "task")} of this name` : plural(node.below, "task")];
  const i = node.task;
  const found = [nameOf(node), `${outcomeWords(i)} · ${duration(tasks.to[i] - tasks.from[i])}`];
  if (tasks.cancelledBy(i)) found.push(`cancelled by ${tasks.cancelledBy(i)}`);
  if (tasks.older(i) && (x < GUTTER || x < xOf(Math.max(0, tasks.from[i])) + 16)) found.push(beginning(i));
  if (x < GUTTER) return found;
  const time = timeAt(x);
  const slack = 1.5 / scale();
  const near = (from, to) => from <= time + slack && to >= time - slack;
  for (const n of lintsOf(i)) if (Math.abs(xOf(lints.at[n]) - x) < 7) found.push(sentence(n));
  for (const n of spansOf(i)) if (near(spans.from[n], spans.to[n]) && found.length < 8) found.push(`in ${spans.name(n)}, ${duration(spans.to[n] - spans.from[n])}`);
  const mine = stepsOf(i);
  const k = firstWhere(mine.length, (k) => steps.to[mine[k]] >= time - slack);
  if (k < mine.length && near(steps.from[mine[k]], steps.to[mine[k]])) found.push(`held the loop for ${duration(steps.to[mine[k]] - steps.from[mine[k]])}`);
  else if (time <= tasks.to[i] && (tasks.neverRan(i) || (tasks.spawned[i] <= time && time < tasks.started[i]))) found.push("has not run yet");
  return found;
}

function startInput() {
  canvas.addEventListener("wheel", onWheel, { passive: false });
  canvas.addEventListener("pointerdown", onDown);
  canvas.addEventListener("pointermove", onMove);
  canvas.addEventListener("pointerup", onUp);
  canvas.addEventListener("pointercancel", onUp);
  canvas.addEventListener("pointerleave", () => {
    view.pointer = view.hover = null;
    byId("tip").hidden = true;
    redraw();
  });
  canvas.addEventListener("dblclick", (event) => {
    const node = nodeAt(event.offsetY);
    if (node && event.offsetX > GUTTER) zoomTo(node);
  });
  addEventListener("keydown", onKey);
  byId("keys").append(el("b", {}, "Keys"), el("dl", {}, ...KEYS.flatMap(([key, what]) => [el("dt", {}, key), el("dd", {}, what)])), legend());
  const buttons = {
    in: () => zoom(0.5), out: () => zoom(2), all: () => { show(0, END); fitRows(); },
    fold: () => openAll(false), unfold: () => openAll(true),
    shorter: () => stretch(0.7), taller: () => stretch(1.4),
    theme: () => { switchTheme(); resize(); }, help: showKeys,
  };
  for (const [id, press] of Object.entries(buttons)) byId(id).addEventListener("click", press);
}
