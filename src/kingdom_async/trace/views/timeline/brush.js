// Drawing many small boxes cheaply: by colour, and no more of them than there are pixels.

const ink = byId("timeline").getContext("2d");
const drawn = { primitives: 0, texts: [] };
const boxes = new Map();

/** A box, drawn with the others of its colour by `flush`. */
function box(fill, x, y, width, height) {
  let same = boxes.get(fill);
  if (!same) boxes.set(fill, (same = []));
  same.push(x, y, width, height);
}

function flush() {
  for (const [fill, all] of boxes) {
    if (!all.length) continue;
    ink.fillStyle = fill;
    for (let n = 0; n < all.length; n += 4) ink.fillRect(all[n], all[n + 1], all[n + 2], all[n + 3]);
    drawn.primitives += all.length / 4;
    all.length = 0;
  }
}

const SHADES = ["step-1", "step-2", "step-3", "step"];
const LITTLE = 0.03; // a smaller share of a pixel is next to nothing
const shade = (share, faint) => color[share < LITTLE && faint ? faint : SHADES[share < 0.1 ? 0 : share < 0.4 ? 1 : share < 0.75 ? 2 : 3]];
let share = new Float32Array(0); // of each pixel's time that was held, while `held` runs

/**
 * Boxes for the steps `pick(0 … count)` that are in sight: as they are where they are wide,
 * else one for each run of pixels that are held for about the same share of their time; *faint*
 * is the colour where that is next to nothing.
 */
function held(count, pick, y, height, paint = null, faint = null) {
  const { from, to } = view;
  const perSecond = scale();
  const width = Math.ceil(plotWidth());
  if (share.length < width + 2) share = new Float32Array(width + 2);
  let least = width;
  let most = -1;
  for (let k = firstWhere(count, (k) => steps.to[pick(k)] >= from); k < count; k++) {
    const n = pick(k);
    if (steps.from[n] > to) break;
    const a = (steps.from[n] - from) * perSecond;
    const b = (steps.to[n] - from) * perSecond;
    const special = paint && steps.to[n] - steps.from[n] >= LONG;
    if (b - a >= 2 || special) {
      const left = Math.max(a, 0);
      box(special ? paint : color.step, GUTTER + left, y, Math.max(Math.min(b, width) - left, special ? 2 : 1), height);
      continue;
    }
    const pixel = a > 0 ? a | 0 : 0;
    if (pixel < least) least = pixel;
    if (pixel > most) most = pixel;
    share[pixel] += Math.max(b - a, 1e-6);
  }
  let begun = -1;
  let fill = null;
  for (let pixel = least; pixel <= most + 1; pixel++) {
    const next = pixel <= most && share[pixel] > 0 ? shade(share[pixel], faint) : null;
    if (next !== fill) {
      if (fill !== null) box(fill, GUTTER + begun, y, pixel - begun, height);
      begun = pixel;
      fill = next;
    }
    share[pixel] = 0;
  }
}

function text(words, x, y, fill, font = `12px ${FONT}`, align = "left") {
  ink.font = font;
  ink.fillStyle = fill;
  ink.textAlign = align;
  ink.textBaseline = "middle";
  ink.fillText(words, x, y);
  drawn.primitives++;
  drawn.texts.push(words);
}

const cuts = new Map();

/** A name without so many of its modules and classes that it fits, or without any. */
function unqualified(words, width) {
  const chain = /(?:[\p{L}\p{N}_<>]+\.)+(?=[\p{L}_<])(?!py:\d)/u.exec(words);
  if (!chain) return words;
  const [before, after] = [words.slice(0, chain.index), words.slice(chain.index + chain[0].length)];
  const parts = chain[0].split(".").slice(1, -1);
  for (let n = 0; n < parts.length; n++) {
    const tried = `${before}…${parts.slice(n).join(".")}.${after}`;
    if (ink.measureText(tried).width <= width) return tried;
  }
  return `${before}…${after}`;
}

/** As much of *words* as fits, with an ellipsis; in the *middle*, where the end tells more. */
function cut(words, width, font = `12px ${FONT}`, middle = false) {
  const key = `${font}|${width | 0}|${middle}|${words}`;
  if (cuts.has(key)) return cuts.get(key);
  ink.font = font;
  let fits = words;
  if (ink.measureText(words).width > width) {
    const letters = [...(middle ? unqualified(words, width) : words)];
    const end = middle ? letters.slice(-Math.min(10, letters.length >> 1)).join("") : "";
    const most = firstWhere(Math.min(400, letters.length), (n) => ink.measureText(`${letters.slice(0, n + 1).join("")}…${end}`).width > width);
    if (ink.measureText(letters.join("")).width <= width) fits = letters.join("");
    else fits = most > 0 ? `${letters.slice(0, most).join("")}…${end}` : middle ? cut(words, width, font) : "";
  }
  if (cuts.size > 5000) cuts.clear();
  cuts.set(key, fits);
  return fits;
}

function line(stroke, width, ...points) {
  ink.strokeStyle = stroke;
  ink.lineWidth = width;
  ink.beginPath();
  for (let n = 0; n < points.length; n += 2) ink.lineTo(points[n], points[n + 1]);
  ink.stroke();
  drawn.primitives++;
}

/** Boxes and words inside the plot only. */
function clipped(top, height, draw) {
  ink.save();
  ink.beginPath();
  ink.rect(GUTTER, top, view.width - GUTTER, height);
  ink.clip();
  draw();
  ink.restore();
}
