// The viewer of a report: before and after with one zoom, grey scale, planes, maps, line profiles.
// Images come with the page (element "viewer-data", see viewer.py); painter.js and profile.js stand
// before this script. Nothing is loaded.
"use strict";

(() => {
  const holder = document.getElementById("viewer");
  const source = document.getElementById("viewer-data");
  if (!holder || !source || typeof DecompressionStream === "undefined") return;
  const data = JSON.parse(source.textContent);
  const COLOURS = {
    Grey: "#ffffff", Green: "#00ff00", Magenta: "#ff00ff", Cyan: "#00ffff", Yellow: "#ffff00", Red: "#ff3030", Blue: "#5080ff",
    Orange: "#ff8000",
  };
  const ZOOMS = [0.125, 0.25, 0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32];

  const state = {
    channel: 0, frame: 0, left: "noisy", right: "denoised", split: 0.5, beside: false, together: false,
    zoom: 1, x: 0, y: 0, tool: "pan", line: null, maps: 4,
    display: data.channels.map((one) => ({ brightness: 0, contrast: 0, gamma: 1, colour: one.colour })),
  };

  const painter = makePainter(data, state);
  const { imageOf, paint, limitsOf, kinds } = painter;
  const has = (name) => {
    const { images } = data.channels[state.channel].frames[state.frame];
    return name in images || name === "residual";
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
    make("p", { class: "note keys" }, "Keys on the image: arrows move it, + and \u2212 zoom, 1 shows it 1:1, 0 fits it, [ and ] step through the frames, ",
      "S puts the halves side by side. The wheel zooms while Ctrl is held, and so do two fingers."),
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
    drawLabel(context, kinds[state.left].label, 8, "left");
    drawLabel(context, kinds[state.right].label, width - 8, "right");
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

  const describe = () => {
    const { frames, name } = data.channels[state.channel];
    const frame = frames[state.frame];
    const what = [name, frame.name].filter(Boolean).join(", ");
    const why = [frame.why, frame.verdict].filter(Boolean).join(": ");
    const captions = [state.left, state.right].map((side) => `${kinds[side].label}: ${kinds[side].caption}`);
    said.textContent = `${what}${why ? ` (${why})` : ""}, ${Math.round(1000 * state.zoom) / 10} % of its size. ${captions.join(" ")}`;
    canvas.setAttribute("aria-label", `${said.textContent} Left of the divider is the first, right of it the second.`);
  };

  const drawProfile = async () => {
    const found = state.line && (await makeProfile(data, state, painter));
    if (!found) {
      profile.replaceChildren(make("p", { class: "note" }, "Choose \u201cdraws a line profile\u201d and drag over the image, or type its ends."));
      return;
    }
    ends.forEach((end) => { if (document.activeElement !== end) end.value = state.line[end.id].toFixed(1); });
    profile.innerHTML = found.svg;
    profile.firstChild.setAttribute("aria-label", `Line profile. ${found.text}`);
    profile.append(make("p", { class: "note", id: "profile-text" }, found.text));
  };

  // ---- pointer and keys -------------------------------------------------------------------

  const select = (channel, frame) => {
    state.channel = Math.min(Math.max(channel, 0), data.channels.length - 1);
    state.frame = Math.min(Math.max(frame, 0), data.channels[state.channel].frames.length - 1);
  };

  let drag = null;
  let pinch = null; // two fingers: their distance, the zoom and the pixel between them when they began
  const fingers = new Map();
  const between = () => {
    const [[x0, y0], [x1, y1]] = [...fingers.values()];
    return { x: (x0 + x1) / 2, y: (y0 + y1) / 2, distance: Math.max(Math.hypot(x1 - x0, y1 - y0), 1) };
  };
  const beginPinch = () => {
    const { x, y, distance } = between();
    drag = null;
    pinch = { distance, zoom: state.zoom, start: origin(sideAt(x)), pixel: toImage(x, y) };
  };
  const movePinch = () => {
    const { x, y, distance } = between();
    const { width, height } = panel();
    state.zoom = Math.min(Math.max((pinch.zoom * distance) / pinch.distance, ZOOMS[0]), ZOOMS.at(-1));
    state.x = pinch.pixel[0] - (x - pinch.start - width / 2) / state.zoom;
    state.y = pinch.pixel[1] - (y - height / 2) / state.zoom;
    draw();
  };
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    const [x, y] = place(event);
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [x, y]);
    if (fingers.size === 2) beginPinch();
    if (fingers.size > 1) return;
    const nearDivider = !state.beside && Math.abs(x - state.split * view().width) < 10;
    drag = { kind: nearDivider ? "split" : state.tool, x, y, from: toImage(x, y) };
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = place(event);
    if (fingers.has(event.pointerId)) fingers.set(event.pointerId, [x, y]);
    if (pinch) return movePinch();
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
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => {
      fingers.delete(event.pointerId);
      drag = pinch = null;
    });
  }
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
