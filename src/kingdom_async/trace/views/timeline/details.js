// What is known of the selected task or group, beside the timeline.

const panel = byId("details");
const SOME = 40; // children, spans and such that are listed

function select(node, { look = true, move = false } = {}) {
  const before = node && node.place >= 0 ? yOf(node.place) : 0;
  view.selected = node;
  layOut(); // its spans get lanes of their own, and what is clicked on stays where it is
  if (node && node.place >= 0) scrollBy(yOf(node.place) - before);
  if (!node) panel.hidden = true;
  else {
    panel.hidden = false;
    panel.replaceChildren(...(node.task >= 0 ? aboutTask(node.task) : aboutGroup(node)));
    panel.scrollTop = 0;
    if (look) bringIntoSight(node);
    if (move) panel.querySelector("h2").focus();
    say(`${nameOf(node)}, ${node.task >= 0 ? WORDS[outcomeOf(node.task)] : plural(node.below, "task")}`);
  }
  markSelected();
  resize();
}

/** A button that selects a task. */
function link(i, words = tasks.name(i) || "(no name)") {
  return el("button", { class: "link", onclick: () => select(tree.nodes[i]) }, signElement(outcomeOf(i)), words);
}

function heading(words, ...more) {
  const close = el("button", { class: "plain icon", "aria-label": "Close the details", onclick: () => select(null) }, "×");
  return el("div", { class: "heading" }, el("h2", { tabindex: "-1" }, words), ...more, close);
}

/** A list of what is known; rows without a value are left out. */
function facts(...rows) {
  const list = el("dl");
  for (const [name, value, kind] of rows) {
    if (value === null) continue;
    list.append(el("dt", {}, name), el("dd", { class: kind ?? null }, ...[value].flat()));
  }
  return list;
}

function section(title, ...children) {
  return el("section", {}, el("h3", {}, title), ...children);
}

function timeOf(at) {
  return at === at ? `${grouped(at, 6)} s` : null;
}

function aboutTask(i) {
  const outcome = outcomeOf(i);
  const life = tasks.to[i] - Math.max(0, tasks.from[i]);
  const parent = tasks.parent[i];
  const zoomed = el("button", { class: "plain", title: "Zoom to it  f", onclick: () => zoomTo(tree.nodes[i]) }, "Zoom to it");
  return [
    heading(tasks.name(i) || "(no name)"),
    el("p", { class: "chips" }, el("span", { class: `chip ${outcome}` }, signElement(outcome), outcomeWords(i)), tasks.foreign(i) ? el("span", { class: "chip" }, "foreign") : null, zoomed),
    tasks.cancelledBy(i) ? el("p", { class: "cause" }, el("b", {}, "Cancelled by "), tasks.cancelledBy(i)) : null,
    ...lintNotes(i),
    tasks.foreign(i) ? el("p", { class: "muted note" }, "Foreign: kingdom_async did not start it, or did before the recording began. Known is what the loop tells.") : null,
    facts(
      ["Lasted", `${tasks.older(i) ? "at least " : ""}${duration(life)}`, "number"],
      ["Held the loop", tasks.busy[i] ? `${duration(tasks.busy[i])}${life > 0 ? ` · ${percent(tasks.busy[i] / life)}` : ""}` : null, "number"],
      ["Steps", stepWords(i), tasks.steps[i] ? "number" : null],
      ["Longest step", tasks.longest[i] ? duration(tasks.longest[i]) : null, `number${tasks.longest[i] >= LONG ? " bad" : ""}`],
      ["First run after", firstRun(i), "number"],
      ["Spawned", tasks.older(i) ? beginning(i) : timeOf(tasks.spawned[i]), tasks.older(i) ? null : "number"],
      ["First step", tasks.ran.has(i) ? timeOf(tasks.from[i]) : null, "number"],
      ["Started", timeOf(tasks.started[i]), "number"],
      ["Ended", timeOf(tasks.ended[i]), "number"],
      ["Spawned at", tasks.place(i), "code"],
      ["Runs", tasks.runs(i), "code"],
      ["Seen at", tasks.foreign(i) && tasks.lines(i).length ? tasks.lines(i).slice(0, 5).map((line) => el("div", {}, line)) : null, "code"],
      ["Group", tasks.group(i), "code"],
      ["Parent", parent >= 0 ? link(parent) : raw.tasks.parent[i] === null ? null : `task ${raw.tasks.parent[i]}, not kept`],
      ["Task", `number ${tasks.serial[i]}`, "number"],
    ),
    histogram(i),
    spanList(i),
    childList(childrenOf(i)),
  ].filter((part) => part !== null);
}

function outcomeWords(i) {
  return tasks.error(i) ? `${WORDS[outcomeOf(i)]}: ${tasks.error(i)}` : WORDS[outcomeOf(i)];
}

/** How many steps it had, or why that is not known. */
function stepWords(i) {
  if (tasks.steps[i]) return grouped(tasks.steps[i]);
  if (raw.level !== "steps" || tasks.neverRan(i)) return null;
  if (tasks.foreign(i)) return "none was seen";
  return tasks.parent[i] < 0 ? "none in whole: the first began before the recording" : null;
}

/** Since when there was a task whose beginning is not in the recording. */
function beginning(i) {
  if (tasks.from[i] < 0) return `${duration(-tasks.from[i])} before the recording`;
  return tasks.from[i] > 0 ? "unseen: during the recording, before anybody looked" : "before the recording";
}

function firstRun(i) {
  if (tasks.neverRan(i)) return "never ran";
  const after = tasks.started[i] - tasks.spawned[i];
  return Number.isNaN(after) ? null : duration(after);
}

function lintNotes(i) {
  return [...lintsOf(i)].map((n) => el("p", { class: "warning" }, signElement("lint"), el("span", {}, el("b", {}, lints.kind(n)), ` ${sentence(n)}`)));
}

/** How many steps were how long, in decades from a microsecond to ten seconds. */
function histogram(i) {
  const mine = stepsOf(i);
  if (!mine.length) return null;
  const counts = new Array(8).fill(0);
  for (const n of mine) counts[Math.min(7, Math.max(0, Math.floor(Math.log10((steps.to[n] - steps.from[n]) / 1e-6) + 1e-9)))]++;
  const names = ["1 µs", "10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s", "10 s"];
  const most = Math.max(...counts);
  const bars = counts.map((count, n) => {
    const tall = count ? Math.max(2, (count / most) * 46) : 0;
    const bar = el("svg", { viewBox: "0 0 30 48", "aria-hidden": "true" }, el("rect", { x: 1, y: 48 - tall, width: 28, height: tall, class: 10 ** (n - 6) >= LONG * 0.999 ? "bad" : null }));
    return el("li", {}, el("span", { class: "count" }, count ? grouped(count) : ""), bar, el("span", { class: "from" }, names[n]));
  });
  const kept = mine.length < tasks.steps[i] ? ` (${grouped(mine.length)} of ${grouped(tasks.steps[i])} kept)` : "";
  return section(`Steps by length${kept}`, el("ol", { class: "histogram", "aria-label": "Number of steps from this length on" }, ...bars));
}

function more(all) {
  return all.length > SOME ? el("p", { class: "muted" }, `and ${grouped(all.length - SOME)} more`) : null;
}

function spanList(i) {
  const mine = [...spansOf(i)];
  if (!mine.length) return null;
  const items = mine.slice(0, SOME).map((n) => {
    const end = spans.open[n] ? "under way" : spans.error(n) ?? duration(spans.to[n] - spans.from[n]);
    const go = el("button", { class: "link", onclick: () => show(spans.from[n] - 0.2 * (spans.to[n] - spans.from[n]), spans.to[n] + 0.2 * (spans.to[n] - spans.from[n])) }, spans.name(n));
    return el("li", { class: `deep-${spans.lane[n]}` }, go, el("span", { class: `number ${spans.error(n) ? "bad" : "muted"}` }, end));
  });
  return section(plural(mine.length, "span"), el("ul", { class: "rows" }, ...items), ...[more(mine)].filter(Boolean));
}

function childList(children) {
  if (!children.length) return null;
  const items = children.slice(0, SOME).map((i) => el("li", {}, link(i), el("span", { class: "number muted" }, duration(tasks.to[i] - tasks.from[i]))));
  const title = children.length === 1 ? "1 child" : `${grouped(children.length)} children`;
  return section(title, el("ul", { class: "rows" }, ...items), ...[more(children)].filter(Boolean));
}

function aboutGroup(node) {
  const { members, most, from, to } = summary(node);
  const direct = node.children.flatMap((child) => (child.task >= 0 ? [child.task] : child.children.map(({ task }) => task)));
  const byOutcome = raw.outcomes.map((name, n) => [name, members.filter((i) => tasks.outcome[i] === n).length]).filter(([, count]) => count);
  const parent = node.up.task >= 0 || !node.up.up ? node.up.task : node.up.up.task;
  const lines = new Map();
  for (const i of direct) if (tasks.place(i)) lines.set(tasks.place(i), (lines.get(tasks.place(i)) ?? 0) + 1);
  const inside = new Set(members);
  const wrong = troubles.map(({ kind, all }) => [kind, all.filter((n) => inside.has(lints.task[n])).length]).filter(([, count]) => count);
  return [
    heading(node.group),
    el("p", { class: "chips" }, ...byOutcome.map(([name, count]) => el("span", { class: `chip ${name}` }, signElement(name), `${grouped(count)} ${WORDS[name]}`))),
    ...wrong.map(([kind, count]) => el("p", { class: "warning" }, signElement("lint"), el("span", {}, el("b", {}, kind), ` ${plural(count, "time")}`))),
    facts(
      ["Tasks", node.family ? `${grouped(direct.length)} of one name${members.length > direct.length ? `, and ${grouped(members.length - direct.length)} below them` : ""}` : grouped(members.length), "number"],
      ["At once", `up to ${grouped(most)}`, "number"],
      ["From first to last", duration(to - from), "number"],
      ["Held the loop", steps.count ? duration(members.reduce((sum, i) => sum + tasks.busy[i], 0)) : null, "number"],
      ["Spawned at", lines.size ? [...lines].sort(([, a], [, b]) => b - a).slice(0, 5).map(([line, count]) => el("div", {}, lines.size > 1 ? `${line} × ${grouped(count)}` : line)) : null, "code"],
      ["Parent", parent >= 0 ? link(parent) : null],
    ),
    childList(direct),
  ].filter((part) => part !== null);
}
