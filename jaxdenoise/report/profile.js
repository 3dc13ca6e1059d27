// Line profiles of the images that are shown.
"use strict";

const number = (value) => String(Number(value.toPrecision(4)));

/** The value of an image between its pixels, whose middles are at halves. */
const sampleAt = ({ width, height, values }, x, y) => {
  const clamp = (k, size) => Math.min(Math.max(k, 0), size - 1);
  const at = (i, j) => values[clamp(j, height) * width + clamp(i, width)];
  const [i, j] = [Math.floor(x - 0.5), Math.floor(y - 0.5)];
  const [p, q] = [x - 0.5 - i, y - 0.5 - j];
  return (1 - q) * ((1 - p) * at(i, j) + p * at(i + 1, j)) + q * ((1 - p) * at(i, j + 1) + p * at(i + 1, j + 1));
};

/** A promise of the chart along `state.line`, {svg, text}: noisy, and what is shown in grey. */
const makeProfile = async (data, state, { imageOf, kinds }) => {
  const { x0, y0, x1, y1 } = state.line;
  const names = [...new Set(["noisy", state.left, state.right])].filter((name) => kinds[name].kind === "grey");
  const images = await Promise.all(names.map((name) => imageOf(state.channel, state.frame, name)));
  const long = Math.hypot(x1 - x0, y1 - y0);
  const count = Math.max(2, Math.ceil(long) + 1);
  const shares = Array.from({ length: count }, (_, k) => k / (count - 1));
  const lines = images.map((image) => shares.map((share) => sampleAt(image, x0 + (x1 - x0) * share, y0 + (y1 - y0) * share)));
  const every = lines.flat();
  const [low, high] = [Math.min(...every), Math.max(...every)];
  const told = names.map((name, n) => `${kinds[name].label.toLowerCase()} ${number(Math.min(...lines[n]))} to ${number(Math.max(...lines[n]))}`);
  const length = data.pixelSize ? `${number(long * data.pixelSize)} \u00b5m` : `${number(long)} pixels`;
  const place = (share, value) => `${(50 + 360 * share).toFixed(1)} ${(150 - (130 * (value - low)) / (high - low || 1)).toFixed(1)}`;
  const colours = { noisy: "faint", denoised: "blue", deconvolved: "orange", truth: "green" };
  const drawn = lines.map((line, n) => `<path class="${colours[names[n]]} line" d="M${line.map((value, k) => place(shares[k], value)).join("L")}"/>`);
  const svg = `<svg class="chart" viewBox="0 0 420 190" role="img"><path class="axis" d="M50 14V150H412"/>
    <text class="end" x="45" y="24">${number(high)}</text><text class="end" x="45" y="150">${number(low)}</text>
    <text x="50" y="168">0</text><text class="end" x="412" y="168">${length}</text>${drawn.join("")}</svg>`;
  return { svg, text: `Over ${length}: ${told.join(", ")} grey levels.` };
};
