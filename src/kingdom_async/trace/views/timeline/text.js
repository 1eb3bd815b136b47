// Numbers and elements for people. Text of the recording enters the page here, and never as markup.

const UNITS = [[60, "min"], [1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]];

/** 0.00123 → "1.23 ms", with three figures. */
function duration(seconds) {
  if (seconds === null || Number.isNaN(seconds)) return "–";
  const size = Math.abs(seconds);
  if (size < 1e-9) return "0";
  if (size >= 3600) return minutes(seconds);
  if (size >= 99.95) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  const [unit, name] = UNITS.find(([unit]) => unit < 60 && size >= unit * 0.9995) ?? UNITS[4];
  const value = seconds / unit;
  const digits = Math.abs(value) >= 99.95 ? 0 : Math.abs(value) >= 9.995 ? 1 : 2;
  return `${value.toFixed(digits)} ${name}`;
}

/** A moment, with as many digits as steps of *precision* need, in a unit that fits *steps*. */
function moment(seconds, precision, steps = precision) {
  if (steps >= 60 && precision >= 60) return minutes(seconds);
  if (steps >= 10) return clock(seconds);
  const unit = steps >= 0.1 ? 1 : steps >= 1e-4 ? 1e-3 : 1e-6;
  const digits = Math.max(0, Math.min(4, -Math.floor(Math.log10(precision / unit) + 1e-9)));
  const name = unit === 1 ? "s" : unit === 1e-3 ? "ms" : "µs";
  return `${grouped(seconds / unit, digits)} ${name}`;
}

/** 4200 → "1 h 10 min"; to the nearest. */
function minutes(seconds) {
  const all = Math.round(seconds / 60);
  const rest = all % 60 || all === 0 ? `${all % 60} min` : "";
  return all < 60 ? rest : `${Math.floor(all / 60)} h ${rest}`.trim();
}

/** 4205 → "1:10:05". */
function clock(seconds) {
  const all = Math.round(seconds);
  const two = (value) => String(value).padStart(2, "0");
  return `${Math.floor(all / 3600)}:${two(Math.floor((all % 3600) / 60))}:${two(all % 60)}`;
}

/** 12345.6 → "12 345.6", with narrow spaces. */
function grouped(value, digits = 0) {
  const [whole, rest] = value.toFixed(digits).split(".");
  const spaced = whole.replace(/\B(?=(\d{3})+$)/g, "\u202f");
  return rest ? `${spaced}.${rest}` : spaced;
}

function plural(count, word) {
  return `${grouped(count)} ${word}${count === 1 ? "" : "s"}`;
}

function percent(share) {
  return share > 0 && share < 0.001 ? "< 0.1 %" : `${(share * 100).toFixed(share < 0.0995 ? 1 : 0)} %`;
}

function byId(id) {
  return document.getElementById(id);
}

/** An element: el("td", {class: "number", onclick}, "text", child). Strings become text. */
function el(tag, properties = {}, ...children) {
  const svg = tag === "svg" || tag === "path" || tag === "rect" || tag === "circle";
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** For the reader of a screen: what just happened. */
function say(text) {
  byId("said").textContent = text;
}
