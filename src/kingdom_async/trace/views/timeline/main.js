// The page begins here: what ran, then the timeline; `window.kingdom` is for tests.

function describe() {
  byId("program").textContent = raw.program || "recording";
  byId("program").title = raw.program;
  const began = raw.began === null ? null : `${new Date(raw.began * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;
  const parts = [
    raw.backend, `Python ${raw.python}`, `pid ${raw.pid}`, `level ${raw.level}`, duration(END), plural(tasks.count, "task"),
    steps.recorded ? plural(steps.recorded, "step") : null, spans.count ? plural(spans.count, "span") : null, began,
  ];
  byId("facts").title = parts.filter(Boolean).join(" · ");
  byId("facts").replaceChildren(...parts.filter(Boolean).map((part) => el("span", {}, part)));
  for (const [n, name] of raw.outcomes.entries()) {
    const count = tasks.outcome.reduce((sum, outcome) => sum + (outcome === n ? 1 : 0), 0);
    if (!count) continue;
    const press = () => {
      const query = `is:${name}`;
      searchFor(byId("search").value === query ? "" : query);
      jump(1);
    };
    byId("outcomes").append(el("button", { class: `chip ${name}`, "data-outcome": name, "aria-pressed": "false", onclick: press }, signElement(name), el("b", {}, grouped(count)), ` ${WORDS[name]}`));
  }
  const lost = Object.entries(raw.dropped).filter(([name, count]) => count && name !== "lints");
  byId("dropped").hidden = lost.length === 0;
  byId("dropped").replaceChildren(
    signElement("lint"),
    el("span", {}, el("b", {}, `Dropped: ${lost.map(([name, count]) => plural(count, name.slice(0, -1))).join(", ")}.`), " The oldest made room for newer ones. To keep all, record for a shorter time, or in the program with recording(tasks=…, steps=…)."),
  );
  byId("about").textContent = byId("about").title = hidesSteps ?? "";
  byId("long").textContent = `${duration(LONG)} or longer`;
}

function resize() {
  const { clientWidth: width, clientHeight: height } = byId("lanes");
  view.ratio = devicePixelRatio || 1;
  view.width = width;
  view.height = height;
  fit(canvas, width, height);
  stripView.width = strip.parentElement.clientWidth;
  fit(strip, stripView.width, STRIP);
  paintOverview();
  keepInside();
  if (!asked) drawAll(); // at once: an empty canvas would flash
}

function fit(target, width, height) {
  const [across, down] = [Math.round(width * view.ratio), Math.round(height * view.ratio)];
  if (target.width !== across) target.width = across;
  if (target.height !== down) target.height = down;
}

function start() {
  showTheme();
  describe();
  startTables();
  startWrong();
  foldLarge();
  startSearch();
  startInput();
  layOut();
  resize();
  fitRows(LEGIBLE);
  if (tops[rows.length] > view.height - view.top) stretch(ROW / view.row);
  new ResizeObserver(resize).observe(byId("lanes"));
  prefersDark.addEventListener("change", () => {
    showTheme();
    resize();
  });
}

start();

window.kingdom = {
  loaded: performance.now(),
  counts: { tasks: tasks.count, steps: steps.recorded, spans: spans.count, lints: lints.count, lags: lags.count },
  find,
  steps: () => Array.from({ length: steps.count }, (_, n) => ({ from: steps.from[n], to: steps.to[n], who: holderOf(n), seen: steps.seen.has(n) })),
  texts: () => drawn.texts,
  ticks: () => ticks,
  jump,
  select: (name) => {
    const i = Array.from({ length: tasks.count }, (_, i) => i).find((i) => tasks.name(i) === name);
    if (i !== undefined) select(tree.nodes[i]);
    return i !== undefined;
  },
  selected: () => (view.selected ? nameOf(view.selected) : null),
  visible: () => ({ from: view.from, to: view.to, scroll: view.scroll, row: view.row, rows: rows.length, names: rows.slice(rowAt(view.top), rowAt(view.height) + 1).map(nameOf) }),
  show, fitRows, openAll, stretch, scrollBy,
  where: (name, at) => {
    const node = rows.find((node) => nameOf(node) === name);
    return node && { from: extent(node).from, x: xOf(at ?? extent(node).from), y: yOf(node.place) + view.row / 2 };
  },
  draw: drawAll,
  drawn,
};
