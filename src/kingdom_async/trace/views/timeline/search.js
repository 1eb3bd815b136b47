// Finding tasks: by a part of the name, or by outcome as in "is:error".

const search = { matches: null, list: [], at: -1, below: new Map() };

function find(query) {
  const wanted = query.trim().toLowerCase();
  const outcome = wanted.startsWith("is:") ? raw.outcomes.findIndex((name) => name === wanted.slice(3)) : -1;
  const line = (i) => (tasks.place(i) ?? "").split(" in ")[0]; // what is spawned in main is not main
  const fits = (i) => (outcome >= 0 ? tasks.outcome[i] === outcome : `${tasks.name(i)}\n${line(i)}\n${tasks.runs(i) ?? ""}`.toLowerCase().includes(wanted));
  search.list = wanted === "" ? [] : tree.everything.filter((node) => node.task >= 0 && fits(node.task)).map((node) => node.task);
  search.matches = wanted === "" ? null : new Set(search.list);
  search.at = -1;
  search.below = countBelow(search.list);
  showHits();
  lookAtFirst();
  redraw();
  return search.list.length;
}

/** How many matches are under each row. */
function countBelow(list) {
  const found = new Map();
  for (const i of list) {
    for (let up = tree.nodes[i].up; up && up.depth >= 0; up = up.up) found.set(up, (found.get(up) ?? 0) + 1);
  }
  return found;
}

const hitsBelow = (node) => search.below.get(node) ?? 0;

/** The first match comes into sight while its name is typed, or the closed row that it is in. */
function lookAtFirst() {
  if (!search.list.length) return;
  let seen = tree.nodes[search.list[0]];
  for (let up = seen.up; up && up.depth >= 0; up = up.up) if (!up.open) seen = up;
  bringIntoSight(seen);
}

/** To the next match, or the one before, and around. */
function jump(way) {
  const { list } = search;
  if (!list.length) return;
  search.at = search.at < 0 ? (way > 0 ? 0 : list.length - 1) : (search.at + way + list.length) % list.length;
  select(tree.nodes[list[search.at]]);
  showHits();
}

function showHits() {
  const { list, at, matches } = search;
  byId("hits").textContent = matches === null ? "" : !list.length ? "no task" : at < 0 ? `${grouped(list.length)} found` : `${grouped(at + 1)} of ${grouped(list.length)}`;
  byId("previous").hidden = byId("next").hidden = list.length === 0;
  byId("slash").hidden = matches !== null;
  for (const chip of byId("outcomes").children) {
    chip.setAttribute("aria-pressed", String(byId("search").value === `is:${chip.dataset.outcome}`));
  }
}

function searchFor(query) {
  byId("search").value = query;
  find(query);
}

function startSearch() {
  const field = byId("search");
  field.addEventListener("input", () => find(field.value));
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") jump(event.shiftKey ? -1 : 1);
    else if (event.key === "Escape") {
      searchFor("");
      byId("timeline").focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
  byId("next").addEventListener("click", () => jump(1));
  byId("previous").addEventListener("click", () => jump(-1));
}
