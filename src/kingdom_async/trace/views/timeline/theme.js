// The colours of the canvases are those of the style sheet, in its light and its dark form.

const NAMES = [
  "panel", "raised", "line", "strong-line", "text", "muted", "accent", "wait", "step-0", "step-1", "step-2", "step-3", "step",
  "span", "span-edge", "span-text", "error", "cancelled", "ok", "running", "unknown", "lint", "selected", "hover", "hit", "curtain", "density", "veil",
];
const color = {};
const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, "Noto Sans", sans-serif';

function readColors() {
  const style = getComputedStyle(document.documentElement);
  for (const name of NAMES) color[name] = style.getPropertyValue(`--${name}`).trim();
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const ink = tile.getContext("2d");
  ink.fillStyle = color.panel;
  ink.fillRect(0, 0, 6, 6);
  ink.strokeStyle = color.unknown;
  ink.lineWidth = 1.2;
  ink.beginPath();
  for (const shift of [-6, 0, 6]) ink.moveTo(shift - 1, 7), ink.lineTo(shift + 7, -1);
  ink.stroke();
  color.hatched = ink.createPattern(tile, "repeat");
}

const prefersDark = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : prefersDark.matches;
}

function showTheme() {
  readColors();
  byId("theme").textContent = isDark() ? "☀" : "☾";
}

function switchTheme() {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  showTheme();
}
