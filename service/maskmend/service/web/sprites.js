// One instance as pictures: coarse and refined fill, their outlines, and the map of what changed between them.
// Each covers the instance's own box only, so that a large photograph with many instances stays cheap.

import { box, crop } from "./rle.js";

const FAR = 1e20;
// From an edge that moved by a pixel to one that moved as far as any: dark to bright, over a darkened image.
const ADDED = [[18, 112, 138], [128, 240, 255]];
const REMOVED = [[158, 62, 22], [255, 206, 120]];

/** Colour of an instance, [r, g, b]: hues a golden angle apart, so that neighbours in the list differ. */
export function colourOf(index) {
  const hue = (205 + index * 137.508) % 360;
  const [saturation, lightness] = [0.78, 0.6 - 0.08 * (index % 3)];
  return [0, 8, 4].map((n) => {
    const k = (n + hue / 30) % 12;
    const a = saturation * Math.min(lightness, 1 - lightness);
    return Math.round(255 * (lightness - a * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  });
}

/** Pictures of an instance; `refined` may be null. Null when there is nothing to draw. */
export function makeSprite(coarse, refined, colour, frame) {
  const around = surround([coarse, refined].filter(Boolean).map(box), frame);
  if (!around) return null;
  const [x, y, width, height] = around;
  const before = coarse ? crop(coarse, x, y, width, height) : new Uint8Array(width * height);
  const after = refined && crop(refined, x, y, width, height);
  const sprite = {
    x, y, width, height,
    bright: `rgb(${colour.map((channel) => Math.round(channel + 0.35 * (255 - channel))).join(" ")})`,
    coarse: { fill: fill(before, width, height, colour), outline: outline(before, x, y, width, height) },
    refined: after && { fill: fill(after, width, height, colour), outline: outline(after, x, y, width, height) },
    heat: () => null,
  };
  if (after && coarse) {
    // Made when it is first looked at: distances cost more than all the rest.
    let made = null;
    sprite.heat = (farthest) => (made ??= heat(changeDistance(before, after, width, height), width, height, farthest));
  }
  return sprite;
}

/** The smallest box around boxes, a pixel wider where the frame allows: the edge has two sides. */
function surround(boxes, frame) {
  const real = boxes.filter(([, , width]) => width > 0);
  if (!real.length) return null;
  const x0 = Math.max(0, Math.min(...real.map((b) => b[0])) - 1);
  const y0 = Math.max(0, Math.min(...real.map((b) => b[1])) - 1);
  const x1 = Math.min(frame.width, Math.max(...real.map((b) => b[0] + b[2])) + 1);
  const y1 = Math.min(frame.height, Math.max(...real.map((b) => b[1] + b[3])) + 1);
  return [x0, y0, x1 - x0, y1 - y0];
}

function painted(width, height, paint) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  paint(new Uint32Array(picture.data.buffer));
  context.putImageData(picture, 0, 0);
  return canvas;
}

const word = (r, g, b) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;

function fill(pixels, width, height, colour) {
  const ink = word(...colour);
  return painted(width, height, (out) => {
    for (let i = 0; i < out.length; i++) if (pixels[i]) out[i] = ink;
  });
}

/** The border between foreground and background along pixel edges, in the image's coordinates. */
function outline(pixels, x0, y0, width, height) {
  const path = new Path2D();
  const at = (x, y) => (x >= 0 && y >= 0 && x < width && y < height ? pixels[y * width + x] : 0);
  // Straight stretches are joined, since a path of single pixels is slow to draw.
  for (let y = 0; y <= height; y++) {
    for (let x = 0; x < width; x++) {
      if (at(x, y - 1) === at(x, y)) continue;
      const from = x;
      while (x + 1 < width && at(x + 1, y - 1) !== at(x + 1, y)) x++;
      path.moveTo(x0 + from, y0 + y);
      path.lineTo(x0 + x + 1, y0 + y);
    }
  }
  for (let x = 0; x <= width; x++) {
    for (let y = 0; y < height; y++) {
      if (at(x - 1, y) === at(x, y)) continue;
      const from = y;
      while (y + 1 < height && at(x - 1, y + 1) !== at(x, y + 1)) y++;
      path.moveTo(x0 + x, y0 + from);
      path.lineTo(x0 + x, y0 + y + 1);
    }
  }
  return path;
}

/** Distance in px from each changed pixel to the coarse edge: above 0 where added, below 0 where removed. */
export function changeDistance(before, after, width, height) {
  const out = new Float32Array(width * height);
  if (!before.some((pixel, i) => pixel !== after[i])) return out;
  const toObject = squaredDistance(before, 1, width, height);
  const toGround = squaredDistance(before, 0, width, height);
  for (let i = 0; i < out.length; i++) {
    if (after[i] > before[i]) out[i] = toObject[i] < FAR ? Math.sqrt(toObject[i]) : 1;
    else if (after[i] < before[i]) out[i] = -(toGround[i] < FAR ? Math.sqrt(toGround[i]) : 1);
  }
  return out;
}

/** Squared distance to the nearest pixel of a value, exact (Felzenszwalb and Huttenlocher): columns, then rows. */
function squaredDistance(pixels, value, width, height) {
  const out = new Float64Array(width * height);
  for (let i = 0; i < out.length; i++) out[i] = pixels[i] === value ? 0 : FAR;
  const longest = Math.max(width, height);
  const line = new Float64Array(longest);
  const places = new Int32Array(longest);
  const borders = new Float64Array(longest + 1);
  for (let x = 0; x < width; x++) lowerEnvelope(out, x, width, height, line, places, borders);
  for (let y = 0; y < height; y++) lowerEnvelope(out, y * width, 1, width, line, places, borders);
  return out;
}

function lowerEnvelope(out, start, stride, length, line, places, borders) {
  for (let i = 0; i < length; i++) line[i] = out[start + i * stride];
  let k = 0;
  places[0] = 0;
  borders[0] = -Infinity;
  borders[1] = Infinity;
  for (let q = 1; q < length; q++) {
    const meet = () => (line[q] + q * q - line[places[k]] - places[k] * places[k]) / (2 * (q - places[k]));
    let s = meet();
    while (s <= borders[k]) {
      k--;
      s = meet();
    }
    places[++k] = q;
    borders[k] = s;
    borders[k + 1] = Infinity;
  }
  k = 0;
  for (let q = 0; q < length; q++) {
    while (borders[k + 1] < q) k++;
    out[start + q * stride] = Math.min(FAR, (q - places[k]) ** 2 + line[places[k]]);
  }
}

function heat(distance, width, height, farthest) {
  return painted(width, height, (out) => {
    for (let i = 0; i < out.length; i++) {
      if (!distance[i]) continue;
      const [near, far] = distance[i] > 0 ? ADDED : REMOVED;
      const t = Math.min(1, (Math.abs(distance[i]) - 1) / (farthest - 1));
      out[i] = word(...near.map((channel, c) => Math.round(channel + t * (far[c] - channel))));
    }
  });
}
