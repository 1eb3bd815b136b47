// The whole recording in one strip: live tasks above, how busy the loop was below. What the
// timeline shows of it lies in a window that is drawn, moved and stretched with the pointer.

const strip = byId("overview");
const stripInk = strip.getContext("2d");
const STRIP = 62;
const BUSY = 14; // px of it for the loop
const living = alive(Array.from({ length: tasks.count }, (_, i) => i));
const stripView = { width: 0, picture: document.createElement("canvas") };
const stripX = (time) => GUTTER + (time / END) * stripWidth();
const stripWidth = () => Math.max(1, stripView.width - GUTTER - MARGIN);
const stripTime = (x) => Math.min(END, Math.max(0, ((x - GUTTER) / stripWidth()) * END));

/** The part that never changes until the size or the colours do. */
function paintOverview() {
  const { picture, width } = stripView;
  picture.width = width * view.ratio;
  picture.height = STRIP * view.ratio;
  const pen = picture.getContext("2d");
  pen.scale(view.ratio, view.ratio);
  const columns = Math.floor(stripWidth());
  const height = STRIP - BUSY - 12;
  const hill = peaks(columns);
  pen.fillStyle = color.density;
  for (let x = 0; x < columns; x++) {
    const tall = (hill[x] / Math.max(1, living.most)) * height;
    pen.fillRect(GUTTER + x, 6 + height - tall, 1, tall);
  }
  const { share, long } = busyColumns(columns);
  for (let x = 0; x < columns; x++) {
    if (share[x] <= 0) continue;
    const tall = Math.max(1, Math.min(1, share[x]) * BUSY);
    pen.fillStyle = long[x] ? color.error : color.step;
    pen.fillRect(GUTTER + x, STRIP - 3 - tall, 1, tall);
  }
  pen.fillStyle = color["strong-line"];
  pen.fillRect(GUTTER, STRIP - 3, columns, 1);
  paintAccidents(pen);
  pen.textBaseline = "middle";
  pen.font = `12px ${FONT}`;
  pen.fillStyle = color.text;
  pen.fillText("Tasks alive", 12, 24);
  pen.fillText("Loop busy", 12, STRIP - 10);
  pen.font = `11px ${FONT}`;
  pen.textAlign = "right";
  pen.fillStyle = color.muted;
  pen.fillText(living.most ? `up to ${grouped(living.most)}` : "none", GUTTER - 12, 24);
  pen.fillText(loopShare(0, END), GUTTER - 12, STRIP - 10);
}

/** Where tasks failed, and where something looked wrong. */
function paintAccidents(pen) {
  pen.fillStyle = color.error;
  for (let i = 0; i < tasks.count; i++) {
    if (tasks.outcome[i] === OUTCOME.error) pen.fillRect(Math.round(stripX(tasks.to[i])) - 1, 0, 2, 5);
  }
  pen.fillStyle = color.lint;
  for (const at of lints.at) {
    const x = stripX(at);
    pen.beginPath();
    for (const [dx, y] of [[-4, 0], [4, 0], [0, 7]]) pen.lineTo(x + dx, y);
    pen.fill();
  }
}

function peaks(columns) {
  const found = new Float64Array(columns);
  let n = 0;
  let count = 0;
  for (let x = 0; x < columns; x++) {
    const edge = ((x + 1) / columns) * END;
    let highest = count;
    while (n < living.times.length && living.times[n] < edge) highest = Math.max(highest, (count = living.counts[n++]));
    found[x] = highest;
  }
  return found;
}

function busyColumns(columns) {
  const share = new Float64Array(columns);
  const long = new Uint8Array(columns);
  const per = columns / END;
  for (let n = 0; n < steps.count; n++) {
    const from = Math.max(0, steps.from[n] * per);
    const to = Math.min(columns, steps.to[n] * per);
    const isLong = steps.to[n] - steps.from[n] >= LONG;
    for (let x = Math.floor(from); x < to && x < columns; x++) {
      share[x] += Math.min(to, x + 1) - Math.max(from, x);
      if (isLong) long[x] = 1;
    }
  }
  return { share, long };
}

function drawOverview() {
  const { width, picture } = stripView;
  stripInk.setTransform(view.ratio, 0, 0, view.ratio, 0, 0);
  stripInk.clearRect(0, 0, width, STRIP);
  stripInk.drawImage(picture, 0, 0, width, STRIP);
  const left = stripX(view.from);
  const right = Math.max(stripX(view.to), left + 2);
  if (view.to - view.from < END * 0.9999) {
    stripInk.fillStyle = color.curtain;
    stripInk.fillRect(GUTTER, 0, left - GUTTER, STRIP - 2);
    stripInk.fillRect(right, 0, GUTTER + stripWidth() - right, STRIP - 2);
    stripInk.strokeStyle = color.accent;
    stripInk.lineWidth = 1.5;
    stripInk.strokeRect(left, 1, right - left, STRIP - 4);
    stripInk.fillStyle = color.accent;
    for (const x of [left, right]) stripInk.fillRect(x - 2, STRIP / 2 - 9, 4, 16);
  }
  stripInk.fillStyle = color["strong-line"];
  stripInk.fillRect(GUTTER - 1, 0, 1, STRIP);
}

/** A drag at a side of the window stretches it, inside moves it, elsewhere draws a new one. */
function startBrush(event) {
  const left = stripX(view.from);
  const right = stripX(view.to);
  const x = event.offsetX;
  const whole = view.to - view.from >= END * 0.9999;
  const fixed = !whole && Math.abs(x - left) < 7 ? view.to : !whole && Math.abs(x - right) < 7 ? view.from : null;
  const moving = fixed === null && !whole && x > left && x < right;
  const start = stripTime(x);
  const before = view.from;
  strip.setPointerCapture(event.pointerId);
  strip.onpointermove = (move) => {
    const at = stripTime(move.offsetX);
    if (moving) show(before + at - start, before + at - start + (view.to - view.from));
    else if (Math.abs(move.offsetX - x) > 3) {
      const other = fixed ?? start;
      show(Math.min(other, at), Math.max(other, at, Math.min(other, at) + SHORTEST));
    }
  };
  strip.onpointerup = strip.onpointercancel = () => (strip.onpointermove = null);
}

strip.addEventListener("pointerdown", startBrush);
strip.addEventListener("dblclick", () => show(0, END));
strip.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(event.deltaY * 0.0015), xOf(stripTime(event.offsetX)));
}, { passive: false });
