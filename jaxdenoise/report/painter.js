// The pixels of a report's viewer: unpack them, and paint them in their colours.
"use strict";

/**
 * All that the viewer asks of images. `data` is what viewer.py wrote, `state` what is shown.
 * `imageOf(channel, frame, name)` is a promise of {width, height, values}, `paint(name)` one of a
 * canvas, `limitsOf(channel)` the grey levels that are black and white.
 */
const makePainter = (data, state) => {
  const PURPLE_ORANGE = [
    [45, 0, 75], [128, 115, 172], [216, 218, 235], [247, 247, 247], [254, 224, 182], [224, 130, 20], [127, 59, 8],
  ];
  const DARK_LIGHT = [[0, 34, 78], [66, 78, 108], [125, 124, 120], [190, 175, 104], [254, 232, 56]];
  const kinds = Object.fromEntries(data.layers.map((layer) => [layer.name, layer]));

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

  return { imageOf, paint, limitsOf, kinds };
};

/** Write a text on the stage, on a dark ground. */
const drawLabel = (context, text, x, align) => {
  context.font = "13px system-ui, sans-serif";
  context.textAlign = align;
  const wide = context.measureText(text).width;
  context.fillStyle = "#000a";
  context.fillRect(align === "left" ? x - 4 : x - wide - 4, 6, wide + 8, 20);
  context.fillStyle = "#fff";
  context.fillText(text, x, 20);
};
