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
const LONG = raw.long_step > 0 ? raw.long_step : 0.1; // seconds, from which on a step is told of

// A task without a first run that is known: one of somebody else's may have run all the same.
tasks.neverRan = (i) => Number.isNaN(tasks.started[i]) && !Number.isNaN(tasks.spawned[i]) && !tasks.foreign(i) && !tasks.steps[i];

const indexOf = new Map(tasks.serial.map((serial, i) => [serial, i]));
const known = (serial) => (serial === null ? -1 : indexOf.get(serial) ?? -1);
tasks.parent = Int32Array.from(raw.tasks.parent, known);
// From where to where a bar is drawn: known times, else the recording's edges.
tasks.from = tasks.spawned.map((at, i) => (at === at ? at : tasks.started[i] === tasks.started[i] ? tasks.started[i] : 0));
// It ran before the recording did, or before anybody looked: where its bar begins is not its beginning.
tasks.older = (i) => tasks.from[i] < 0 || (Number.isNaN(tasks.spawned[i]) && Number.isNaN(tasks.started[i]) && !tasks.ran.has(i));
tasks.ran = new Set(); // of those, the ones whose first step is known
tasks.to = tasks.ended.map((at, i) => Math.max(at === at ? at : END, tasks.from[i]));

let steps = (() => {
  const count = raw.steps.after.length;
  const from = new Float64Array(count);
  const to = new Float64Array(count);
  let at = 0;
  for (let n = 0; n < count; n++) {
    at += raw.steps.after[n];
    from[n] = at * raw.tick;
    to[n] = (at + raw.steps.length[n]) * raw.tick;
  }
  return { count, recorded: count, from, to, task: Int32Array.from(raw.steps.task, known), serial: raw.steps.task };
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

let lags = { count: raw.lags.at.length, at: seconds(raw.lags.at), length: seconds(raw.lags.length) };
