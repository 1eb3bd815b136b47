// Signs for outcomes: each has a shape of its own, as colour alone does not tell everybody.

const SIGNS = {
  ok: "M-3.2 .2 -1 2.4 3.4 -2.6",
  error: "M-3 -3 3 3M3 -3 -3 3",
  cancelled: "M-3.6 0A3.6 3.6 0 1 0 3.6 0A3.6 3.6 0 1 0 -3.6 0M-2.5 2.5 2.5 -2.5",
  running: "M-2.2 -3.4 3.2 0 -2.2 3.4Z",
  unknown: "M-1.9 -1.6A2 2 0 1 1 .6 .4L0 1V1.5M0 3.4V3.5",
  lint: "M0 -3.8 4.2 3.4H-4.2ZM0 -1.2V.8M0 2.1V2.2",
};
const WORDS = { ok: "ok", error: "failed", cancelled: "cancelled", running: "running", unknown: "unknown" };
const paths = Object.fromEntries(Object.entries(SIGNS).map(([name, path]) => [name, new Path2D(path)]));

/** A sign on the canvas, with a rim that sets it off from what is under it. */
function sign(name, x, y, size = 1) {
  ink.save();
  ink.translate(x, y);
  ink.scale(size, size);
  ink.lineCap = ink.lineJoin = "round";
  ink.strokeStyle = color.panel;
  ink.lineWidth = 4.5;
  ink.stroke(paths[name]);
  ink.strokeStyle = color[name];
  ink.lineWidth = 1.7;
  ink.stroke(paths[name]);
  ink.restore();
  drawn.primitives += 2;
}

/** The same sign as an element. */
function signElement(name) {
  const path = el("path", { d: SIGNS[name] });
  return el("svg", { viewBox: "-5 -5 10 10", class: `sign ${name}`, "aria-hidden": "true" }, path);
}

function outcomeOf(i) {
  return raw.outcomes[tasks.outcome[i]];
}
