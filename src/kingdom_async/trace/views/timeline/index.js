// What belongs to which task, and how to look things up in the order of time.

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

// Tasks that were there when the recording began were all noted then, before any other; one that
// is noted later and whose spawning is not known began in between. Where each of its steps is
// kept, it began no later than the first, and hardly earlier.
{
  let noted = 0;
  for (let i = 0; i < tasks.count; i++) {
    if (!tasks.older(i)) noted = Math.max(noted, tasks.spawned[i] || 0);
    else if (noted > 0 && Number.isNaN(tasks.spawned[i])) {
      const mine = stepsOf(i);
      const isKept = mine.length > 0 && mine.length >= tasks.steps[i];
      tasks.from[i] = Math.min(isKept ? steps.from[mine[0]] : noted, tasks.to[i]);
      if (isKept) tasks.ran.add(i);
    }
  }
}

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
