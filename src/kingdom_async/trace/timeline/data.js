// The recording, unpacked: columns become typed arrays, in seconds from the beginning.
// NaN stands for a time that is not known, -1 for a task that is not in the recording.

const raw = JSON.parse(byId("recording").textContent);
const OUTCOME = Object.fromEntries(raw.outcomes.map((name, number) => [name, number]));

function seconds(column) {
  return Float64Array.from(column, (value) => (value === null ? NaN : value * raw.tick));
}

function textOf(number) {
  return number === null ? null : raw.texts[number];
}

const tasks = {
  count: raw.tasks.serial.length,
  serial: raw.tasks.serial,
  spawned: seconds(raw.tasks.spawned),
  started: seconds(raw.tasks.started),
  ended: seconds(raw.tasks.ended),
  outcome: Uint8Array.from(raw.tasks.outcome),
  busy: seconds(raw.tasks.busy),
  steps: raw.tasks.steps,
  name: (i) => textOf(raw.tasks.name[i]),
  place: (i) => textOf(raw.tasks.place[i]),
  group: (i) => textOf(raw.tasks.group[i]),
  error: (i) => textOf(raw.tasks.error[i]),
  cancelledBy: (i) => textOf(raw.tasks.cancelled_by[i]),
  foreign: (i) => raw.tasks.foreign[i] === 1,
};
const END = Math.max(raw.duration * raw.tick, 1e-6);

// A task without a first run that is known: one of somebody else's may have run all the same.
tasks.neverRan = (i) => Number.isNaN(tasks.started[i]) && !Number.isNaN(tasks.spawned[i]) && !tasks.foreign(i) && !tasks.steps[i];

const indexOf = new Map(tasks.serial.map((serial, i) => [serial, i]));
const known = (serial) => (serial === null ? -1 : indexOf.get(serial) ?? -1);
tasks.parent = Int32Array.from(raw.tasks.parent, known);
// From where to where a bar is drawn: known times, else the recording's edges.
tasks.from = tasks.spawned.map((at, i) => (at === at ? at : tasks.started[i] === tasks.started[i] ? tasks.started[i] : 0));
tasks.to = tasks.ended.map((at, i) => Math.max(at === at ? at : END, tasks.from[i]));

const steps = (() => {
  const count = raw.steps.after.length;
  const from = new Float64Array(count);
  const to = new Float64Array(count);
  let at = 0;
  for (let n = 0; n < count; n++) {
    at += raw.steps.after[n];
    from[n] = at * raw.tick;
    to[n] = (at + raw.steps.length[n]) * raw.tick;
  }
  return { count, from, to, task: Int32Array.from(raw.steps.task, known), serial: raw.steps.task };
})();

const spans = {
  count: raw.spans.name.length,
  from: seconds(raw.spans.start),
  to: seconds(raw.spans.end).map((at) => (at === at ? at : END)),
  open: raw.spans.end.map((at) => at === null),
  task: Int32Array.from(raw.spans.task, known),
  outcome: raw.spans.outcome,
  name: (n) => textOf(raw.spans.name[n]),
  error: (n) => textOf(raw.spans.error[n]),
};

const lints = {
  count: raw.lints.kind.length,
  at: seconds(raw.lints.at),
  task: Int32Array.from(raw.lints.task, known),
  kind: (n) => textOf(raw.lints.kind[n]),
  place: (n) => textOf(raw.lints.place[n]),
  message: (n) => textOf(raw.lints.message[n]),
};

const lags = { at: seconds(raw.lags.at), length: seconds(raw.lags.length) };
lags.count = lags.at.length;
lags.longest = lags.length.reduce((most, length) => Math.max(most, length), 0);

/** The rows of each task: a slice of one array, in the order of time. */
function byTask(task, count) {
  const first = new Int32Array(tasks.count + 1);
  for (let n = 0; n < count; n++) if (task[n] >= 0) first[task[n] + 1]++;
  for (let i = 0; i < tasks.count; i++) first[i + 1] += first[i];
  const rows = new Int32Array(first[tasks.count]);
  const next = first.slice();
  for (let n = 0; n < count; n++) if (task[n] >= 0) rows[next[task[n]]++] = n;
  return (i) => rows.subarray(first[i], first[i + 1]);
}
const stepsOf = byTask(steps.task, steps.count);
const spansOf = byTask(spans.task, spans.count);
const lintsOf = byTask(lints.task, lints.count);

tasks.longest = Float64Array.from({ length: tasks.count }, (_, i) =>
  stepsOf(i).reduce((most, n) => Math.max(most, steps.to[n] - steps.from[n]), 0));

/** The first place in 0 … count at which *above* holds; it must hold from there on. */
function firstWhere(count, above) {
  let low = 0;
  for (let high = count; low < high; ) {
    const middle = (low + high) >> 1;
    if (above(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** How many tasks were alive when: [times, counts], for any of the tasks. */
function alive(members) {
  const starts = Float64Array.from(members, (i) => tasks.from[i]).sort();
  const ends = Float64Array.from(members, (i) => (tasks.ended[i] === tasks.ended[i] ? tasks.to[i] : Infinity)).sort();
  const times = new Float64Array(starts.length + ends.length);
  const counts = new Float64Array(times.length);
  for (let a = 0, b = 0, n = 0; n < times.length; n++) {
    const starting = a < starts.length && starts[a] <= ends[b];
    times[n] = starting ? starts[a++] : ends[b++];
    counts[n] = a - b;
  }
  return { times, counts, most: counts.reduce((most, count) => Math.max(most, count), 0) };
}
