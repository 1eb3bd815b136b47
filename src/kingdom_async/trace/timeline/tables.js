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
      ["Lasted", (i) => tasks.to[i] - tasks.from[i], (i, value) => [duration(value)], "number"],
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
      ["When", (n) => lints.at[n], (n, value) => [timeOf(value) ?? "–"], "number"],
      ["Task", (n) => (lints.task[n] < 0 ? "" : tasks.name(lints.task[n])), (n, value) => [value || "–"]],
      ["What is wrong", (n) => lints.message(n), (n, value) => [value], "wide"],
      ["Line", (n) => lints.place(n) ?? "", (n, value) => [value || "–"], "code"],
    ],
  },
};
const orLess = (value) => (Number.isNaN(value) ? -1 : value);
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

function order(table) {
  const [title, way] = table.sorted;
  const [, value] = table.columns.find(([name]) => name === title);
  const values = Array.from({ length: table.count }, (_, n) => value(n));
  const compare = typeof values[0] === "string" ? (a, b) => (values[a] < values[b] ? -1 : values[a] > values[b] ? 1 : a - b) : (a, b) => values[a] - values[b] || a - b;
  return Array.from({ length: table.count }, (_, n) => n).sort((a, b) => way * compare(a, b));
}

function fillTable() {
  const table = TABLES[current];
  const ordered = order(table);
  byId("shown").textContent = table.count > MOST_ROWS ? `the first ${MOST_ROWS} of ${grouped(table.count)}` : "";
  const head = el("tr", {}, ...table.columns.map(([title, , , kind]) => headCell(table, title, kind)));
  const body = el("tbody", {}, ...ordered.slice(0, MOST_ROWS).map((n) => bodyRow(table, n)));
  const nothing = el("p", { class: "muted empty" }, current === "lints" ? "Nothing looks wrong." : "No tasks were recorded.");
  byId("table").replaceChildren(table.count ? el("table", {}, el("thead", {}, head), body) : nothing);
  markSelected();
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

function bodyRow(table, n) {
  const i = table.task(n);
  const open = i < 0 ? null : () => select(tree.nodes[i]);
  const cells = table.columns.map(([title, value, content, kind]) => {
    const inside = content(n, value(n));
    const shown = kind === "name" ? [el("button", { class: "link" }, ...inside)] : inside;
    return el("td", { class: kind ?? null, title: kind === "wide" || kind === "code" ? String(value(n)) : null }, ...shown);
  });
  const bad = current === "slow" && tasks.longest[n] >= LONG;
  if (bad) cells[4].classList.add("bad");
  return el("tr", { "data-task": i, class: "choice", onclick: open ?? (() => show(lints.at[n] - END / 50, lints.at[n] + END / 50)) }, ...cells);
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
