// Masks as things to draw: fills, outlines along the sides of pixels, and a map of what changed.

export const BEFORE = [255, 138, 36];
export const AFTER = [54, 197, 255];
export const TRUTH = [255, 240, 92];
const ADDED = [[20, 110, 150], [120, 235, 255]]; // of an edge that moved little, and far
const REMOVED = [[160, 70, 20], [255, 200, 110]];

export const css = (colour, alpha = 1) => `rgb(${colour.join(" ")} / ${alpha})`;

/** A picture of the mask in one colour. */
export function fillOf(pixels, width, height, [red, green, blue]) {
  return pictureOf(width, height, (out) => {
    for (let i = 0, at = 0; i < pixels.length; i++, at += 4) {
      if (!pixels[i]) continue;
      out[at] = red;
      out[at + 1] = green;
      out[at + 2] = blue;
      out[at + 3] = 255;
    }
  });
}

/** The border of the mask as a path; the frame's own border is part of it where the mask reaches it. */
export function outlineOf(pixels, width, height) {
  const path = new Path2D();
  for (const [x0, y0, x1, y1] of sidesOf(pixels, width, height)) {
    path.moveTo(x0, y0);
    path.lineTo(x1, y1);
  }
  return path;
}

/** Straight sides [x0, y0, x1, y1] between foreground and background, each as long as it goes. */
export function sidesOf(pixels, width, height) {
  const sides = [];
  for (let y = 0; y <= height; y++) {
    let from = -1;
    for (let x = 0; x <= width; x++) {
      const above = x < width && y > 0 ? pixels[(y - 1) * width + x] : 0;
      const below = x < width && y < height ? pixels[y * width + x] : 0;
      if (above !== below && from < 0) from = x;
      else if (above === below && from >= 0) {
        sides.push([from, y, x, y]);
        from = -1;
      }
    }
  }
  for (let x = 0; x <= width; x++) {
    let from = -1;
    for (let y = 0; y <= height; y++) {
      const left = y < height && x > 0 ? pixels[y * width + x - 1] : 0;
      const right = y < height && x < width ? pixels[y * width + x] : 0;
      if (left !== right && from < 0) from = y;
      else if (left === right && from >= 0) {
        sides.push([x, from, x, y]);
        from = -1;
      }
    }
  }
  return sides;
}

/** A picture of the changes, the brighter the farther from the edge before; `farthest` in pixels of the mask. */
export function changesOf(before, after, width, height, farthest) {
  const far = movedOf(before, after, width, height);
  return pictureOf(width, height, (out) => {
    for (let i = 0; i < far.length; i++) {
      if (!far[i]) continue;
      const [dark, bright] = after[i] ? ADDED : REMOVED;
      const share = Math.min(1, (far[i] - 1) / Math.max(1, farthest - 1));
      for (let c = 0; c < 3; c++) out[4 * i + c] = dark[c] + share * (bright[c] - dark[c]);
      out[4 * i + 3] = 255;
    }
  });
}

/** For each changed pixel the distance to the nearest pixel that had its new value before; 0 elsewhere. */
export function movedOf(before, after, width, height) {
  const out = new Float32Array(width * height);
  for (const value of [0, 1]) {
    if (!after.some((pixel, i) => pixel === value && before[i] !== value)) continue;
    const squared = squaredDistances(before, value, width, height);
    for (let i = 0; i < out.length; i++) {
      if (after[i] === value && before[i] !== value) out[i] = Math.min(Math.sqrt(squared[i]), width + height);
    }
  }
  return out;
}

// Down the columns by counting, then along the rows the lowest of the parabolas that stand on them.
function squaredDistances(pixels, value, width, height) {
  const none = (width + height) ** 2;
  const down = new Float64Array(width * height);
  for (let x = 0; x < width; x++) {
    let gap = width + height;
    for (let y = 0; y < height; y++) {
      gap = pixels[y * width + x] === value ? 0 : gap + 1;
      down[y * width + x] = gap;
    }
    gap = width + height;
    for (let y = height - 1; y >= 0; y--) {
      gap = pixels[y * width + x] === value ? 0 : gap + 1;
      const least = Math.min(down[y * width + x], gap);
      down[y * width + x] = Math.min(none, least * least);
    }
  }
  const out = new Float64Array(width * height);
  const feet = new Int32Array(width);
  const starts = new Float64Array(width + 1);
  for (let row = 0; row < width * height; row += width) {
    let last = -1;
    for (let x = 0; x < width; x++) {
      let start = -Infinity;
      while (last >= 0) {
        const foot = feet[last];
        start = (down[row + x] + x * x - down[row + foot] - foot * foot) / (2 * (x - foot));
        if (start > starts[last]) break;
        last--;
        start = -Infinity;
      }
      last++;
      feet[last] = x;
      starts[last] = start;
    }
    starts[last + 1] = Infinity;
    for (let x = 0, at = 0; x < width; x++) {
      while (starts[at + 1] < x) at++;
      out[row + x] = down[row + feet[at]] + (x - feet[at]) ** 2;
    }
  }
  return out;
}

function pictureOf(width, height, paint) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  paint(picture.data);
  context.putImageData(picture, 0, 0);
  return canvas;
}
