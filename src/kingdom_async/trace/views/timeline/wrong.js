// The strip that says at the top what is wrong: one button for each kind, gravest first. Each
// press goes to the next of its kind, beginning with the worst.

function startWrong() {
  const failed = raw.outcomes.indexOf("error");
  const errors = new Map();
  for (let i = 0; i < tasks.count; i++) {
    if (tasks.outcome[i] === failed) errors.set(tasks.error(i) ?? "error", (errors.get(tasks.error(i) ?? "error") ?? 0) + 1);
  }
  const buttons = troubles.map(troubleButton);
  if (errors.size) buttons.splice(troubles.filter(({ kind }) => gravityOf(kind) < 2).length, 0, failedButton(errors));
  byId("wrong").hidden = buttons.length === 0;
  byId("wrong").append(...buttons);
}

function troubleButton(trouble) {
  const { kind, all, worst } = trouble;
  const many = el("span", { class: "many" }, grouped(all.length));
  const order = [worst, ...all.filter((n) => n !== worst)];
  const press = () => {
    trouble.at = (trouble.at + 1) % order.length;
    many.textContent = order.length > 1 ? `${grouped(trouble.at + 1)} of ${grouped(order.length)}` : "1";
    unfoldKind(kind);
    goTo(order[trouble.at]);
  };
  const words = el("span", { class: "said" }, shortly(worst));
  return el("button", { class: isMinor(kind) ? "trouble minor" : "trouble", "data-kind": kind, title: sentence(worst), onclick: press }, signElement("lint"), el("b", {}, kind), many, words);
}

function failedButton(errors) {
  const said = [...errors].sort(([, a], [, b]) => b - a).map(([error, count]) => (count > 1 ? `${error} × ${grouped(count)}` : error)).join(", ");
  const press = () => {
    if (byId("search").value !== "is:error") searchFor("is:error");
    jump(1);
  };
  const count = [...errors.values()].reduce((sum, count) => sum + count, 0);
  return el("button", { class: "trouble failed", "data-kind": "failed", title: said, onclick: press }, signElement("error"), el("b", {}, "failed"), el("span", { class: "many" }, grouped(count)), el("span", { class: "said" }, said));
}
