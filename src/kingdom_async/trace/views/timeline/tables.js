// The slowest tasks and the lints: sortable, and a way into the timeline for who cannot see it.

const MOST_ROWS = 100;
const TABLES = {
  slow: {
    count: tasks.count,
    task: (i) => i,
    sorted: ["Lasted", -1],
    columns: [
      ["Task", (i) => tasks.name(i) || "(no name)", (i) => [signElement(outcomeOf(i)), tasks.name(i) || "(no name)"], "name"],
      ["End", (i) => WORDS[outcomeOf(i)], (i) => [outcomeWords(i)]],
      ["Lasted", (i) => tasks.to[i] - Math.max(0, tasks.from[i]), (i, value) => [duration(value)], "number"],
      ["Held the loop", (i) => tasks.busy[i], (i, value) => [value ? duration(value) : "–"], "number"],
      ["Longest step", (i) => tasks.longest[i], (i, value) => [value ? duration(value) : "–"], "number"],
      ["Steps", (i) => tasks.steps[i], (i, value) => [value ? grouped(value) : "–"], "number"],
      ["First run after", (i) => orLess(tasks.started[i] - tasks.spawned[i]), (i) => [firstRun(i) ?? "–"], "number"],
      ["Spawned at", (i) => tasks.place(i) ?? "", (i, value) => [value || "–"], "code"],
    ],
  },
  lints: {
    count: lints.count,
    task: (n) => lints.task[n],
    sorted: ["When", 1],
    columns: [
      ["Lint", (n) => lints.kind(n), (n, value) => [signElement("lint"), value], "name"],
      ["When", (n) => lints.at[n], (n, value) => [whenOf(value)], "number"],
      ["Task", (n) => (lints.task[n] < 0 ? "" : tasks.name(lints.task[n])), (n, value) => [value || "–"]],
      ["What is wrong", sentence, (n, value) => [value], "wide"],
      ["Line", (n) => lints.place(n) ?? "", (n, value) => [value || "–"], "code"],
    ],
  },
};
const orLess = (value) => (Number.isNaN(value) ? -1 : value);
/** A moment, to a ten-thousandth of the recording. */
const whenOf = (at) => (Number.isNaN(at) ? "–" : END >= 600 ? clock(at) : moment(at, END / 1e4, 1));
let current = lints.count ? "lints" : "slow";

function showTable(which) {
  current = which;
  for (const name of Object.keys(TABLES)) {
    const tab = byId(`tab-${name}`);
    tab.setAttribute("aria-selected", String(name === which));
    tab.tabIndex = name === which ? 0 : -1;
  }
  byId("table").setAttribute("aria-labelledby", `tab-${which}`);
  fillTable();
}

function order(table, rows = Array.from({ length: table.count }, (_, n) => n)) {
  const [title, way] = table.sorted;
  const [, value] = table.columns.find(([name]) => name === title);
  const values = new Map(rows.map((n) => [n, value(n)]));
  const isText = typeof values.get(rows[0]) === "string";
  const compare = isText ? (a, b) => (values.get(a) < values.get(b) ? -1 : values.get(a) > values.get(b) ? 1 : a - b) : (a, b) => values.get(a) - values.get(b) || a - b;
  return rows.sort((a, b) => way * compare(a, b));
}

function fillTable() {
  const table = TABLES[current];
  byId("shown").textContent = current === "lints" ? lostLints() : table.count > MOST_ROWS ? `the first ${MOST_ROWS} of ${grouped(table.count)}` : "";
  const head = el("tr", {}, ...table.columns.map(([title, , , kind]) => headCell(table, title, kind)));
  const bodies = current === "lints" ? troubles.map((trouble) => kindBody(table, trouble)) : [el("tbody", {}, ...order(table).slice(0, MOST_ROWS).map((n) => bodyRow(table, n)))];
  const nothing = el("p", { class: "muted empty" }, current === "lints" ? "Nothing looks wrong." : "No tasks were recorded.");
  byId("table").replaceChildren(table.count ? el("table", {}, el("thead", {}, head), ...bodies) : nothing);
  markSelected();
}

const KEPT_LINTS = 1024;

/** Lints are lost for another reason than the rest: of what happens often, some is enough. */
function lostLints() {
  const lost = raw.dropped.lints;
  if (!lost) return "";
  return `${grouped(lost)} more of these were not kept: ${lints.count < KEPT_LINTS ? "of each kind, 20 in a second are" : "of each kind 20 in a second are, and the last 1\u202f024"}`;
}

const unfolded = new Set(); // the kinds of lint whose rows are shown
const FEW_LINTS = 6; // so few rows need no folding
if (lints.count <= FEW_LINTS) for (const { kind } of troubles) unfolded.add(kind);

/** The lints of a kind: one row as it is, several below a row for all. */
function kindBody(table, trouble) {
  const { kind, all } = trouble;
  if (all.length === 1) return el("tbody", {}, bodyRow(table, all[0]));
  const open = unfolded.has(kind);
  const rows = open ? order(table, [...all]).slice(0, MOST_ROWS).map((n) => bodyRow(table, n, "inner")) : [];
  const rest = open && all.length > MOST_ROWS ? [el("tr", {}, el("td", { class: "muted inner", colspan: table.columns.length }, `and ${grouped(all.length - MOST_ROWS)} more`))] : [];
  return el("tbody", {}, kindRow(trouble, open), ...rows, ...rest);
}

function kindRow({ kind, all, worst }, open) {
  const turn = () => {
    if (!unfolded.delete(kind)) unfolded.add(kind);
    fillTable();
    [...byId("table").querySelectorAll("tr.kind button")].find((button) => button.dataset.kind === kind).focus();
  };
  const same = (value) => (all.every((n) => value(n) === value(all[0])) ? value(all[0]) : null);
  const who = same((n) => (lints.task[n] < 0 ? "" : stemOf(lints.task[n])));
  const button = el("button", { class: "link", "data-kind": kind, "aria-expanded": String(open) }, el("span", { class: "arrow", "aria-hidden": "true" }, open ? "▾" : "▸"), signElement("lint"), kind, el("span", { class: "many" }, grouped(all.length)));
  const worstOf = open ? null : el("span", {}, el("span", { class: "muted" }, "worst: "), sentence(worst));
  return el("tr", { class: "choice kind", onclick: turn },
    el("td", { class: "name" }, button),
    el("td", { class: "number" }, [...new Set([all[0], all[all.length - 1]].map((n) => whenOf(lints.at[n])))].join(" – ")),
    el("td", {}, who || (who === null ? "several" : "–")),
    el("td", { class: "wide" }, worstOf),
    el("td", { class: "code" }, same((n) => lints.place(n) ?? "–") ?? "several"));
}

/** Shows the lints of one kind, if the table of lints is there to be seen. */
function unfoldKind(kind) {
  unfolded.add(kind);
  showTable("lints");
  const row = [...byId("table").querySelectorAll("tr")].find((row) => row.querySelector(`[data-kind]`)?.dataset.kind === kind);
  if (row) byId("table").scrollTop = row.offsetTop - 28;
}

function headCell(table, title, kind) {
  const [sorted, way] = table.sorted;
  const turn = () => {
    table.sorted = [title, sorted === title ? -way : kind === "number" && title !== "When" ? -1 : 1];
    fillTable();
    [...byId("table").querySelectorAll("th button")].find((button) => button.dataset.title === title).focus();
  };
  const arrow = el("span", { class: "arrow", "aria-hidden": "true" }, sorted === title ? (way > 0 ? "↑" : "↓") : "");
  const state = sorted === title ? (way > 0 ? "ascending" : "descending") : "none";
  return el("th", { class: kind ?? null, scope: "col", "aria-sort": state }, el("button", { class: "plain", "data-title": title, onclick: turn }, title, arrow));
}

function bodyRow(table, n, kind = "") {
  const i = table.task(n);
  const open = current === "lints" ? () => goTo(n) : () => select(tree.nodes[i]);
  const cells = table.columns.map(([title, value, content, kind]) => {
    const inside = content(n, value(n));
    const shown = kind === "name" ? [el("button", { class: "link" }, ...inside)] : inside;
    return el("td", { class: kind ?? null, title: kind === "wide" || kind === "code" ? String(value(n)) : null }, ...shown);
  });
  const bad = current === "slow" && tasks.longest[n] >= LONG;
  if (bad) cells[4].classList.add("bad");
  return el("tr", { "data-task": i, class: `choice ${kind}`, onclick: open }, ...cells);
}

function markSelected() {
  for (const row of byId("table").querySelectorAll("tbody tr")) {
    row.classList.toggle("selected", view.selected !== null && view.selected.task >= 0 && Number(row.dataset.task) === view.selected.task);
  }
}

function hideTables() {
  const hidden = byId("tables").classList.toggle("folded");
  byId("hide").setAttribute("aria-expanded", String(!hidden));
  byId("hide").textContent = hidden ? "▴" : "▾";
  resize();
}

function startTables() {
  byId("tab-lints").replaceChildren("Lints ", el("span", { class: lints.count ? "badge" : "badge none" }, grouped(lints.count)));
  for (const name of Object.keys(TABLES)) {
    byId(`tab-${name}`).addEventListener("click", () => {
      if (byId("tables").classList.contains("folded")) hideTables();
      showTable(name);
    });
    byId(`tab-${name}`).addEventListener("keydown", (event) => {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      event.preventDefault();
      const other = name === "slow" ? "lints" : "slow";
      showTable(other);
      byId(`tab-${other}`).focus();
    });
  }
  byId("hide").addEventListener("click", hideTables);
  showTable(current);
}
