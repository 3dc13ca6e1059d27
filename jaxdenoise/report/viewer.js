// The viewer of a report: before and after with one zoom, grey scale, planes, maps, line profiles.
// Images come with the page (element "viewer-data", see viewer.py). Nothing is loaded.
"use strict";

(() => {
  const holder = document.getElementById("viewer");
  const source = document.getElementById("viewer-data");
  if (!holder || !source || typeof DecompressionStream === "undefined") return;
  const data = JSON.parse(source.textContent);
  const PURPLE_ORANGE = [
    [45, 0, 75], [128, 115, 172], [216, 218, 235], [247, 247, 247], [254, 224, 182], [224, 130, 20], [127, 59, 8],
  ];
  const DARK_LIGHT = [[0, 34, 78], [66, 78, 108], [125, 124, 120], [190, 175, 104], [254, 232, 56]];
  const COLOURS = {
    Grey: "#ffffff", Green: "#00ff00", Magenta: "#ff00ff", Cyan: "#00ffff", Yellow: "#ffff00", Red: "#ff3030", Blue: "#5080ff",
    Orange: "#ff8000",
  };
  const ZOOMS = [0.125, 0.25, 0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32];
  const kinds = Object.fromEntries(data.layers.map((layer) => [layer.name, layer]));

  const state = {
    channel: 0, frame: 0, left: "noisy", right: "denoised", split: 0.5, beside: false, together: false,
    zoom: 1, x: 0, y: 0, tool: "pan", line: null, maps: 4,
    display: data.channels.map((one) => ({ brightness: 0, contrast: 0, gamma: 1, colour: one.colour })),
  };

  // ---- images -----------------------------------------------------------------------------

  const decoded = new Map();

  /** Undo `viewer.pack`: a promise of {width, height, values}. */
  const unpack = async ({ width, height, low, step, data: text }) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const planes = new Uint8Array(await new Response(stream).arrayBuffer());
    const count = width * height;
    const values = new Float32Array(count);
    for (let i = 0, last = 0; i < count; i++) {
      const folded = (planes[i] << 8) | planes[count + i];
      const change = (folded >>> 1) ^ -(folded & 1);
      last = i % width ? (last + change) & 65535 : change & 65535;
      values[i] = low + step * last;
    }
    return { width, height, values };
  };

  const deviation = ({ level, variance }, value) => {
    const last = level.length - 1;
    if (value <= level[0] || last === 0) return Math.sqrt(variance[0]);
    if (value >= level[last]) {
      // Photon noise grows with the light beyond the brightest flat area, as in guard_measures.py.
      const middle = Math.floor((last + 1) / 2);
      const mean = (list) => list.slice(0, middle).reduce((a, b) => a + b, 0) / middle;
      const slope = (variance[last] - mean(variance)) / Math.max(level[last] - mean(level), 1e-30);
      return Math.sqrt(variance[last] + Math.max(slope, 0) * (value - level[last]));
    }
    let k = 1;
    while (level[k] < value) k++;
    const share = (value - level[k - 1]) / (level[k] - level[k - 1]);
    return Math.sqrt(variance[k - 1] + share * (variance[k] - variance[k - 1]));
  };

  /** A promise of an image of a channel's frame; the residual follows from two others. */
  const imageOf = (channel, frame, name) => {
    const key = `${channel}/${frame}/${name}`;
    if (!decoded.has(key)) {
      const { images } = data.channels[channel].frames[frame];
      decoded.set(key, name === "residual" ? residualOf(channel, frame) : unpack(images[name]));
    }
    return decoded.get(key);
  };

  const residualOf = async (channel, frame) => {
    const [noisy, denoised] = await Promise.all(["noisy", "denoised"].map((name) => imageOf(channel, frame, name)));
    const { noise } = data.channels[channel];
    const values = denoised.values.map((value, i) => (noisy.values[i] - value) / deviation(noise, value));
    return { ...noisy, values };
  };

  const has = (name) => {
    const { images } = data.channels[state.channel].frames[state.frame];
    return name in images || name === "residual";
  };

  // ---- colours ----------------------------------------------------------------------------

  /** Grey levels that are black and white. */
  const limitsOf = (channel) => {
    const [low, high] = data.channels[channel].limits;
    const { brightness, contrast } = state.display[channel];
    const half = (high - low) / 2 / 2 ** contrast;
    const middle = (low + high) / 2 - brightness * (high - low);
    return [middle - half, middle + half];
  };

  const parts = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

  const anchored = (anchors, share) => {
    const place = Math.min(Math.max(share, 0), 1) * (anchors.length - 1);
    const k = Math.min(Math.floor(place), anchors.length - 2);
    return anchors[k].map((value, i) => value + (place - k) * (anchors[k + 1][i] - value));
  };

  /** 256 colours of a layer, and the values of the first and the last. */
  const scaleOf = (channel, name) => {
    const { kind } = kinds[name];
    const shares = Array.from({ length: 256 }, (_, i) => i / 255);
    if (kind === "signed") return { limits: [-state.maps, state.maps], colours: shares.map((s) => anchored(PURPLE_ORANGE, s)) };
    if (kind === "positive") return { limits: [0, state.maps / 4], colours: shares.map((s) => anchored(DARK_LIGHT, s)) };
    const { gamma, colour } = state.display[channel];
    const white = parts(colour);
    return { limits: limitsOf(channel), colours: shares.map((s) => white.map((value) => value * s ** gamma)) };
  };

  const painted = new Map();

  /** A canvas with the pixels of a layer in its colours; of all channels where they are together. */
  const paint = async (name) => {
    const together = state.together && kinds[name].kind === "grey";
    const channels = together ? data.channels.map((_, n) => n) : [state.channel];
    const key = JSON.stringify([name, channels, state.frame, state.maps, channels.map((n) => state.display[n])]);
    if (painted.has(key)) return painted.get(key);
    const images = await Promise.all(channels.map((n) => imageOf(n, state.frame, name)));
    const { width, height } = images[0];
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const pixels = new ImageData(width, height);
    images.forEach(({ values }, n) => {
      const { limits, colours } = scaleOf(channels[n], name);
      const factor = 255 / (limits[1] - limits[0]);
      for (let i = 0; i < values.length; i++) {
        const place = Math.round((values[i] - limits[0]) * factor);
        const colour = colours[place < 0 ? 0 : place > 255 ? 255 : place];
        for (let k = 0; k < 3; k++) pixels.data[4 * i + k] += colour[k]; // saturates
        pixels.data[4 * i + 3] = 255;
      }
    });
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    if (painted.size > 24) painted.clear();
    painted.set(key, canvas);
    return canvas;
  };

  // ---- the page's elements ----------------------------------------------------------------

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  };
  const labelled = (text, control) => make("label", {}, make("span", {}, text), control);
  const choice = (id, change) => make("select", { id, onchange: (event) => change(event.target.value) });
  const range = (id, min, max, step, change) =>
    make("input", { id, type: "range", min, max, step, oninput: (event) => change(Number(event.target.value)) });
  const button = (id, text, click) => make("button", { id, type: "button", onclick: click }, text);

  const canvas = make("canvas", { id: "stage", tabindex: "0", role: "img" });
  const said = make("p", { id: "stage-text", class: "note", "aria-live": "polite" });
  const readout = make("p", { id: "readout", class: "readout" }, "\u00a0");
  const profile = make("div", { id: "profile" });
  const own = () => state.display[state.channel];
  const changed = (apply) => (value) => {
    apply(value);
    draw();
  };
  const controls = {
    channel: choice("channel", changed((value) => select(Number(value), state.frame))),
    together: make("input", { id: "together", type: "checkbox", onchange: (event) => changed((on) => (state.together = on))(event.target.checked) }),
    frame: choice("frame", changed((value) => select(state.channel, Number(value)))),
    left: choice("left", changed((value) => (state.left = value))),
    right: choice("right", changed((value) => (state.right = value))),
    beside: choice("layout", changed((value) => (state.beside = value === "beside"))),
    split: range("split", 0, 1, 0.001, changed((value) => (state.split = value))),
    brightness: range("brightness", -1, 1, 0.01, changed((value) => (own().brightness = value))),
    contrast: range("contrast", -3, 5, 0.05, changed((value) => (own().contrast = value))),
    gamma: range("gamma", 0.2, 3, 0.05, changed((value) => (own().gamma = value))),
    colour: choice("colour", changed((value) => (own().colour = value))),
    maps: range("maps", 1, 12, 0.5, changed((value) => (state.maps = value))),
    tool: choice("tool", changed((value) => (state.tool = value))),
  };
  const ends = ["x0", "y0", "x1", "y1"].map((name) =>
    make("input", { id: name, type: "number", step: "1", onchange: () => {
      const values = ends.map((end) => Number(end.value));
      state.line = Object.fromEntries(["x0", "y0", "x1", "y1"].map((key, i) => [key, values[i]]));
      draw();
    } }),
  );
  const levels = make("span", { id: "levels", class: "note" });

  const option = (value, text) => make("option", { value }, text);
  data.channels.forEach((one, n) => controls.channel.append(option(n, one.name || "the image")));
  data.channels[0].frames.forEach((one, n) => {
    const bad = data.channels.find((channel) => channel.frames[n].verdict);
    const words = bad ? `${one.name}: ${bad.frames[n].verdict}` : `${one.name}${one.why ? `: ${one.why}` : ""}`;
    controls.frame.append(option(n, words));
  });
  for (const [name, value] of Object.entries(COLOURS)) controls.colour.append(option(value, name));
  controls.beside.append(option("slider", "one image, two halves"), option("beside", "side by side"));
  controls.tool.append(option("pan", "moves the image"), option("profile", "draws a line profile"));
  const several = data.channels.length > 1;
  const stepZoom = (by) => {
    const next = by > 0 ? ZOOMS.find((zoom) => zoom > state.zoom * 1.001) : ZOOMS.findLast((zoom) => zoom < state.zoom * 0.999);
    state.zoom = next ?? state.zoom;
    draw();
  };
  const fit = () => {
    const { width, height } = panel();
    const image = size();
    const whole = Math.min(width / image.width, height / image.height);
    state.zoom = whole >= 1 ? Math.floor(whole) : whole;
    [state.x, state.y] = [image.width / 2, image.height / 2];
  };
  const group = (name, ...children) => make("fieldset", {}, make("legend", {}, name), ...children);
  holder.append(
    make("div", { class: "bar" },
      several ? labelled("Channel", controls.channel) : "",
      data.channels[0].frames.length > 1 ? labelled("Frame", controls.frame) : "",
      labelled("Left", controls.left), labelled("Right", controls.right), labelled("Layout", controls.beside),
      make("span", { class: "buttons" },
        button("one-to-one", "1:1", () => { state.zoom = 1; draw(); }),
        button("fit", "Fit", () => { fit(); draw(); }),
        button("zoom-in", "+", () => stepZoom(1)), button("zoom-out", "\u2212", () => stepZoom(-1)))),
    make("div", { class: "stage" }, canvas),
    labelled("Left | right", controls.split),
    readout, said,
    make("div", { class: "tools" },
      group("Grey scale", labelled("Brightness", controls.brightness), labelled("Contrast", controls.contrast),
        labelled("Gamma", controls.gamma), labelled("Colour", controls.colour),
        several ? labelled("All channels together", controls.together) : "",
        labelled("Maps, \u00b1 noise", controls.maps), levels, button("reset", "Reset", () => {
          Object.assign(own(), { brightness: 0, contrast: 0, gamma: 1, colour: data.channels[state.channel].colour });
          state.maps = 4;
          draw();
        })),
      group("Line profile", labelled("Dragging", controls.tool),
        make("div", { class: "ends" }, ...["From x", "y", "to x", "y"].map((text, i) => labelled(text, ends[i]))), profile)),
    make("p", { class: "note" }, "Keys on the image: arrows move it, + and \u2212 zoom, 1 shows it 1:1, 0 fits it, [ and ] step through the frames, ",
      "S puts the halves side by side. The wheel zooms while Ctrl is held."),
  );
  holder.hidden = false;

  // ---- drawing ----------------------------------------------------------------------------

  const size = () => data.channels[state.channel].frames[state.frame].images.noisy;
  const ratio = () => window.devicePixelRatio || 1;
  const view = () => ({ width: canvas.clientWidth, height: canvas.clientHeight });
  /** The size of one panel in CSS pixels. */
  const panel = () => ({ width: state.beside ? (view().width - 4) / 2 : view().width, height: view().height });
  /** The first CSS pixel of a panel that shows a side. */
  const origin = (side) => (state.beside && side === "right" ? view().width / 2 + 2 : 0);
  const sideAt = (x) => (x < (state.beside ? view().width / 2 : state.split * view().width) ? "left" : "right");
  const toImage = (x, y) => {
    const { width, height } = panel();
    return [state.x + (x - origin(sideAt(x)) - width / 2) / state.zoom, state.y + (y - height / 2) / state.zoom];
  };

  const keepInside = () => {
    const image = size();
    state.x = Math.min(Math.max(state.x, 0), image.width);
    state.y = Math.min(Math.max(state.y, 0), image.height);
  };

  let turn = 0;
  const draw = async () => {
    const mine = ++turn;
    for (const side of ["left", "right"]) if (!has(state[side])) state[side] = side === "left" ? "noisy" : "denoised";
    keepInside();
    showControls();
    const [left, right] = await Promise.all([paint(state.left), paint(state.right)]);
    if (mine !== turn) return; // a later call draws
    const scale = ratio();
    const { width, height } = view();
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    context.imageSmoothingEnabled = state.zoom < 1;
    const divider = state.beside ? width / 2 : state.split * width;
    for (const [side, image, from, to] of [["left", left, 0, divider], ["right", right, divider, width]]) {
      context.save();
      context.beginPath();
      context.rect(from, 0, to - from, height);
      context.clip();
      const middle = origin(side) + panel().width / 2;
      context.translate(middle, height / 2);
      context.scale(state.zoom, state.zoom);
      context.translate(-state.x, -state.y);
      context.drawImage(image, 0, 0);
      if (state.line) drawLine(context);
      context.restore();
    }
    context.fillStyle = "#f0b429";
    context.fillRect(divider - 1, 0, 2, height);
    label(context, kinds[state.left].label, 8, "left");
    label(context, kinds[state.right].label, width - 8, "right");
    scaleBar(context, height);
    describe();
    drawProfile();
    canvas.dataset.drawn = String(mine);
  };

  const drawLine = (context) => {
    const { x0, y0, x1, y1 } = state.line;
    context.lineWidth = 1.5 / state.zoom;
    context.strokeStyle = "#f0b429";
    context.beginPath();
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
    context.stroke();
  };

  const label = (context, text, x, align) => {
    context.font = "13px system-ui, sans-serif";
    context.textAlign = align;
    const wide = context.measureText(text).width;
    context.fillStyle = "#000a";
    context.fillRect(align === "left" ? x - 4 : x - wide - 4, 6, wide + 8, 20);
    context.fillStyle = "#fff";
    context.fillText(text, x, 20);
  };

  const scaleBar = (context, height) => {
    if (!data.pixelSize) return;
    const rough = (100 / state.zoom) * data.pixelSize;
    const power = 10 ** Math.floor(Math.log10(rough));
    const long = power * [1, 2, 5, 10].findLast((factor) => factor * power <= rough);
    const wide = (long / data.pixelSize) * state.zoom;
    context.fillStyle = "#000a";
    context.fillRect(4, height - 32, wide + 16, 28);
    context.fillStyle = "#fff";
    context.fillRect(12, height - 12, wide, 3);
    context.textAlign = "left";
    context.fillText(`${Number(long.toPrecision(3))} \u00b5m`, 12, height - 17);
  };

  const showControls = () => {
    const { frames } = data.channels[state.channel];
    for (const side of ["left", "right"]) {
      controls[side].replaceChildren(...data.layers.filter((layer) => has(layer.name)).map((layer) => option(layer.name, layer.label)));
      controls[side].value = state[side];
    }
    controls.channel.value = state.channel;
    controls.frame.value = state.frame;
    controls.beside.value = state.beside ? "beside" : "slider";
    controls.tool.value = state.tool;
    controls.split.value = state.split;
    controls.split.disabled = state.beside;
    controls.maps.value = state.maps;
    controls.together.checked = state.together;
    for (const name of ["brightness", "contrast", "gamma"]) controls[name].value = own()[name];
    if (![...controls.colour.options].some((one) => one.value === own().colour)) controls.colour.append(option(own().colour, own().colour));
    controls.colour.value = own().colour;
    const [low, high] = limitsOf(state.channel);
    levels.textContent = `Black ${number(low)}, white ${number(high)} grey levels, gamma ${own().gamma}.`;
    canvas.style.cursor = state.tool === "profile" ? "crosshair" : "grab";
    for (const cell of document.querySelectorAll(".strip button")) {
      const at = frames.findIndex((one) => String(one.number) === cell.dataset.frame);
      cell.classList.toggle("now", at === state.frame && Number(cell.dataset.channel) === state.channel);
    }
  };

  const number = (value) => String(Number(value.toPrecision(4)));

  const describe = () => {
    const { frames, name } = data.channels[state.channel];
    const frame = frames[state.frame];
    const what = [name, frame.name].filter(Boolean).join(", ");
    const why = [frame.why, frame.verdict].filter(Boolean).join(": ");
    const captions = [state.left, state.right].map((side) => `${kinds[side].label}: ${kinds[side].caption}`);
    said.textContent = `${what}${why ? ` (${why})` : ""}, ${Math.round(1000 * state.zoom) / 10} % of its size. ${captions.join(" ")}`;
    canvas.setAttribute("aria-label", `${said.textContent} Left of the divider is the first, right of it the second.`);
  };

  // ---- line profile -----------------------------------------------------------------------

  const sample = ({ width, height, values }, x, y) => {
    const at = (i, j) => values[Math.min(Math.max(j, 0), height - 1) * width + Math.min(Math.max(i, 0), width - 1)];
    const [i, j] = [Math.floor(x - 0.5), Math.floor(y - 0.5)];
    const [p, q] = [x - 0.5 - i, y - 0.5 - j];
    return (1 - q) * ((1 - p) * at(i, j) + p * at(i + 1, j)) + q * ((1 - p) * at(i, j + 1) + p * at(i + 1, j + 1));
  };

  const drawProfile = async () => {
    if (!state.line) {
      profile.replaceChildren(make("p", { class: "note" }, "Choose \u201cdraws a line profile\u201d and drag over the image, or type its ends."));
      return;
    }
    const { x0, y0, x1, y1 } = state.line;
    ends.forEach((end, i) => { if (document.activeElement !== end) end.value = [x0, y0, x1, y1][i].toFixed(1); });
    const names = [...new Set(["noisy", state.left, state.right].filter((name) => kinds[name].kind === "grey"))];
    const images = await Promise.all(names.map((name) => imageOf(state.channel, state.frame, name)));
    const long = Math.hypot(x1 - x0, y1 - y0);
    const count = Math.max(2, Math.ceil(long) + 1);
    const lines = images.map((image) =>
      Array.from({ length: count }, (_, k) => sample(image, x0 + ((x1 - x0) * k) / (count - 1), y0 + ((y1 - y0) * k) / (count - 1))));
    const every = lines.flat();
    const [low, high] = [Math.min(...every), Math.max(...every)];
    const told = names.map((name, n) => `${kinds[name].label.toLowerCase()} ${number(Math.min(...lines[n]))} to ${number(Math.max(...lines[n]))}`);
    const length = data.pixelSize ? `${number(long * data.pixelSize)} \u00b5m` : `${number(long)} pixels`;
    const text = `Over ${length}: ${told.join(", ")} grey levels.`;
    const place = (k, value) => `${(50 + (360 * k) / (count - 1)).toFixed(1)} ${(150 - (130 * (value - low)) / (high - low || 1)).toFixed(1)}`;
    const colours = { noisy: "faint", denoised: "blue", deconvolved: "orange", truth: "green" };
    const drawn = lines.map((line, n) => `<path class="${colours[names[n]]} line" d="M${line.map((value, k) => place(k, value)).join("L")}"/>`);
    profile.innerHTML = `<svg class="chart" viewBox="0 0 420 190" role="img"><path class="axis" d="M50 14V150H412"/>
      <text class="end" x="45" y="24">${number(high)}</text><text class="end" x="45" y="150">${number(low)}</text>
      <text x="50" y="168">0</text><text class="end" x="412" y="168">${length}</text>${drawn.join("")}</svg>`;
    profile.firstChild.setAttribute("aria-label", `Line profile. ${text}`);
    profile.append(make("p", { class: "note", id: "profile-text" }, text));
  };

  // ---- pointer and keys -------------------------------------------------------------------

  const select = (channel, frame) => {
    state.channel = Math.min(Math.max(channel, 0), data.channels.length - 1);
    state.frame = Math.min(Math.max(frame, 0), data.channels[state.channel].frames.length - 1);
  };

  let drag = null;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    const [x, y] = place(event);
    const nearDivider = !state.beside && Math.abs(x - state.split * view().width) < 10;
    drag = { kind: nearDivider ? "split" : state.tool, x, y, from: toImage(x, y) };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = place(event);
    const [column, row] = toImage(x, y);
    tellPixel(x, column, row);
    if (!drag) return;
    if (drag.kind === "split") state.split = Math.min(Math.max(x / view().width, 0), 1);
    else if (drag.kind === "profile") state.line = { x0: drag.from[0], y0: drag.from[1], x1: column, y1: row };
    else {
      state.x -= (x - drag.x) / state.zoom;
      state.y -= (y - drag.y) / state.zoom;
      [drag.x, drag.y] = [x, y];
    }
    draw();
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (drag = null));
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    stepZoom(-event.deltaY);
  }, { passive: false });

  const tellPixel = async (x, column, row) => {
    const [i, j] = [Math.floor(column), Math.floor(row)];
    const { width, height } = size();
    if (i < 0 || j < 0 || i >= width || j >= height) return;
    const names = [state.left, state.right];
    const images = await Promise.all(names.map((name) => imageOf(state.channel, state.frame, name)));
    const [top, first] = data.place ?? [0, 0];
    const told = names.map((name, n) => `${kinds[name].label} ${number(images[n].values[j * width + i])}`);
    readout.textContent = `x ${i + first}, y ${j + top}: ${told.join(", ")}`;
  };

  const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { key } = event;
    if (key in STEPS) {
      state.x += (40 / state.zoom) * STEPS[key][0];
      state.y += (40 / state.zoom) * STEPS[key][1];
    } else if (key === "+" || key === "=") stepZoom(1);
    else if (key === "-") stepZoom(-1);
    else if (key === "1") state.zoom = 1;
    else if (key === "0") fit();
    else if (key === "[") select(state.channel, state.frame - 1);
    else if (key === "]") select(state.channel, state.frame + 1);
    else if (key.toLowerCase() === "s") state.beside = !state.beside;
    else return;
    event.preventDefault();
    draw();
  });

  for (const cell of document.querySelectorAll(".strip button")) {
    cell.addEventListener("click", () => {
      const channel = Number(cell.dataset.channel);
      const at = data.channels[channel].frames.findIndex((one) => String(one.number) === cell.dataset.frame);
      if (at < 0) return;
      select(channel, at);
      draw();
      document.getElementById("images").scrollIntoView({ behavior: "auto" });
    });
  }

  fit();
  draw();
  new ResizeObserver(() => draw()).observe(canvas);
  addEventListener("beforeprint", () => draw());
})();
