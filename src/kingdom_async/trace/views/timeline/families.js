// Names: what a task is called, and which tasks are called alike. "amap(row)[3]" and
// "amap(row)[4]" are of one family; where there are many, one row shows them all.

// A task that nobody gave a name is called after the function that it was seen in: where it opened
// a group, or where the loop was blocked; else after its coroutine. `tasks.lines` has all such lines.

const NUMBERED = /^(Task-\d+)(?: \((.*)\))?$/; // asyncio's own names, and what such a task runs
tasks.lines = (() => {
  const found = new Map();
  const note = (i, line) => {
    if (i < 0 || !line) return;
    if (!found.has(i)) found.set(i, new Set());
    found.get(i).add(line);
  };
  for (let n = 0; n < lints.count; n++) if (["blocked-loop", "stuck"].includes(lints.kind(n))) note(lints.task[n], lints.place(n));
  for (let i = 0; i < tasks.count; i++) note(tasks.parent[i], tasks.group(i)?.split(" at ")[1]);
  return (i) => [...(found.get(i) ?? [])];
})();
{
  const own = tasks.name;
  const names = new Map();
  tasks.name = (i) => {
    if (!names.has(i)) {
      const [, number, runs] = NUMBERED.exec(own(i) ?? "") ?? [];
      const inside = number ? tasks.lines(i)[0]?.split(" in ")[1] : null;
      const isSaid = runs !== undefined && runs.split(".").at(-1) === inside;
      names.set(i, inside && !isSaid ? `${number} in ${inside}` : own(i));
    }
    return names.get(i);
  };
  /** What a task runs that is called after something else, or null. */
  tasks.runs = (i) => (tasks.name(i) === own(i) ? null : NUMBERED.exec(own(i))[2] ?? null);
}

const LEVEL = 16; // from so many tasks side by side on,
const FAMILY = 8; // so many of one name become one row

const stems = new Map();

/** A name without its numbers. */
function stemOf(i) {
  const name = tasks.name(i) || "(no name)";
  let stem = stems.get(name);
  if (stem === undefined) stems.set(name, (stem = name.replace(/\d+/g, "…")));
  return stem;
}

/** A group that names no line says nothing: its tasks are told apart by their names. */
function groupOf(i) {
  const group = tasks.group(i);
  return group !== null && group.includes(" at ") ? group : null;
}

/** Which of *members*, all of one parent, share a group, and which of these a name. */
function sorted(members) {
  const sizes = new Map();
  const count = (key) => sizes.set(key, (sizes.get(key) ?? 0) + 1);
  for (const i of members) if (groupOf(i) !== null) count(groupOf(i));
  const group = (i) => (groupOf(i) !== null && sizes.get(groupOf(i)) > 1 ? groupOf(i) : null);
  const key = (i) => `${group(i) ?? ""}\n${stemOf(i)}`;
  let alone = 0; // those that no group of two or more holds
  for (const i of members) {
    count(key(i));
    if (group(i) === null) alone++;
  }
  function family(i) {
    const mine = sizes.get(key(i));
    const level = group(i) === null ? alone : sizes.get(group(i));
    const isAll = group(i) !== null && mine === level; // the group's own row shows them
    return level < LEVEL || mine < FAMILY || isAll ? null : key(i);
  }
  return { group, family };
}
