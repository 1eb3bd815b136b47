// For the selected task: where it came from, and what it spawned.

const MOST_LINKS = 200;

function drawLinks() {
  const node = view.selected;
  if (!node || node.task < 0 || view.row < 5) return;
  drawFrame(node);
  const parent = tasks.parent[node.task];
  if (parent >= 0) drawLink(tree.nodes[parent], node);
  let many = 0;
  for (const i of childrenOf(node.task)) if (many++ < MOST_LINKS) drawLink(node, tree.nodes[i]);
}

/** The tasks that one spawned, whichever group they are in. */
function childrenOf(i) {
  return tree.nodes[i].children.flatMap((child) => (child.task >= 0 ? [child] : child.children)).map((child) => child.task);
}

function drawFrame(node) {
  if (node.place < 0) return;
  const { y, height } = bar(yOf(node.place));
  const left = Math.max(xOf(tasks.from[node.task]), GUTTER - 4);
  const right = Math.min(xOf(tasks.to[node.task]), view.width + 4);
  if (right < GUTTER || left > view.width) return;
  ink.strokeStyle = color.text;
  ink.lineWidth = 1.5;
  ink.strokeRect(left - 1, y - 1, Math.max(2, right - left) + 2, height + 2);
  drawn.primitives++;
}

function drawLink(parent, child) {
  if (parent.place < 0 || child.place < 0) return;
  const x = Math.round(xOf(tasks.from[child.task])) - 3.5;
  const from = bar(yOf(parent.place));
  const to = bar(yOf(child.place));
  if (x < GUTTER - 8 || x > view.width || (from.y > view.height && to.y > view.height)) return;
  const down = to.y > from.y;
  const start = down ? from.y + from.height : from.y;
  const end = to.y + to.height / 2;
  ink.globalAlpha = 0.75;
  line(color.text, 1, x, start, x, end, x + 3, end);
  line(color.text, 1, x, end - 3, x + 3, end, x, end + 3);
  ink.globalAlpha = 1;
}
