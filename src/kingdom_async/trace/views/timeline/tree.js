// Who holds whom: tasks under their parents, in the groups that hold them open.
// A node is a task ({task}), or a row for two or more ({group}): those of one task group, or
// those of one name ({group, family}); all have children.

const FEW_TASKS = 40; // so few are all shown

const tree = (() => {
  const children = Array.from({ length: tasks.count }, () => []);
  const roots = [];
  for (let i = 0; i < tasks.count; i++) {
    const parent = tasks.parent[i];
    (parent < 0 || parent === i ? roots : children[parent]).push(i);
  }
  const nodes = new Array(tasks.count);
  const top = { task: -1, group: null, children: [], depth: -1, up: null, open: true };

  // Without recursion: a chain of tasks may be longer than the stack is deep.
  function grow(members, up) {
    const waiting = [[members, up]];
    while (waiting.length) {
      const [below, above] = waiting.pop();
      for (const node of inGroups(below, above)) {
        if (node.task >= 0 && children[node.task].length) waiting.push([children[node.task], node]);
      }
    }
  }

  function inGroups(members, up) {
    const { group, family } = sorted(members);
    const made = new Map();
    const below = (above, key, more) => {
      if (key === null) return above;
      if (!made.has(key)) {
        made.set(key, { task: -1, children: [], depth: above.depth + 1, up: above, open: true, ...more });
        above.children.push(made.get(key));
      }
      return made.get(key);
    };
    return members.map((i) => {
      const held = below(up, group(i), { group: group(i) });
      const above = below(held, family(i), { group: stemOf(i), family: true, open: tasks.count <= FEW_TASKS });
      nodes[i] = { task: i, group: null, children: [], depth: above.depth + 1, up: above, open: true };
      above.children.push(nodes[i]);
      return nodes[i];
    });
  }

  grow(roots, top);
  // What is left hangs in a circle, which no program makes: shown all the same.
  for (let i = 0; i < tasks.count; i++) {
    if (nodes[i]) continue;
    children[tasks.parent[i]] = children[tasks.parent[i]].filter((n) => n !== i);
    grow([i], top);
  }

  /** Every node, parents first. */
  function* all() {
    const waiting = [...top.children].reverse();
    while (waiting.length) {
      const node = waiting.pop();
      yield node;
      for (let n = node.children.length - 1; n >= 0; n--) waiting.push(node.children[n]);
    }
  }
  const everything = [...all()];
  for (const node of everything) node.below = 0;
  top.below = 0;
  for (const node of [...everything].reverse()) node.up.below += node.below + (node.task >= 0 ? 1 : 0);
  return { top, nodes, everything };
})();

/** The tasks under a node, itself not among them. */
function tasksBelow(node) {
  const found = [];
  const waiting = [...node.children];
  while (waiting.length) {
    const next = waiting.pop();
    if (next.task >= 0) found.push(next.task);
    for (const child of next.children) waiting.push(child);
  }
  return found;
}

/** What a closed node shows of the tasks in it; worked out when first asked for. */
function summary(node) {
  if (!node.summary) {
    const members = tasksBelow(node);
    const ends = (outcome) =>
      Float64Array.from(members.filter((i) => tasks.outcome[i] === OUTCOME[outcome]), (i) => tasks.to[i]).sort();
    node.summary = {
      members,
      ...alive(members),
      from: members.reduce((least, i) => Math.min(least, tasks.from[i]), Infinity),
      to: members.reduce((most, i) => Math.max(most, tasks.to[i]), -Infinity),
      errors: ends("error"),
      lints: Float64Array.from(members.flatMap((i) => [...lintsOf(i)].map((n) => lints.at[n]))).sort(),
      long: members.filter((i) => tasks.longest[i] >= LONG).flatMap((i) => [...stepsOf(i)].filter((n) => steps.to[n] - steps.from[n] >= LONG)),
    };
  }
  return node.summary;
}

function nameOf(node) {
  return node.task >= 0 ? tasks.name(node.task) || "(no name)" : node.group;
}

/** Opens what hides a node; true if anything had to be. */
function reveal(node) {
  let opened = false;
  for (let up = node.up; up; up = up.up) {
    opened ||= !up.open;
    up.open = true;
  }
  return opened;
}

const MANY_CHILDREN = 24;

/** What does not fit opens with its large groups closed: first the shape, then the tasks. */
function foldLarge() {
  if (tree.everything.length * LEGIBLE <= byId("lanes").clientHeight - view.top) return;
  for (const node of tree.everything) {
    node.open &&= !(node.children.length > MANY_CHILDREN && node.task < 0);
  }
}
