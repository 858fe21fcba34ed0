// Polygons to masks by COCO's own rule, so that what the page counts as changed is what the server counts.

import { fromStretches } from "./rle.js";

const FINE = 5; // COCO walks outlines in fifths of a pixel.

/** The union of flat polygons [x0, y0, x1, y1, ...]. */
export function fromPolygons(polygons, width, height) {
  const stretches = [];
  for (const polygon of polygons) {
    if (!Array.isArray(polygon) || polygon.length < 6 || polygon.length % 2) {
      throw new Error("a polygon is a list of six or more numbers, x and y in turn");
    }
    const turns = columnTurns(polygon, width, height).sort((a, b) => a - b);
    // Between an odd turn and the next one the walk is inside; what is left over reaches the end of the frame.
    for (let i = 0; i < turns.length; i += 2) stretches.push([turns[i], turns[i + 1] ?? width * height]);
  }
  return fromStretches(stretches, width, height);
}

/** Places, counted down the columns, where a column changes between outside and inside. */
function columnTurns(polygon, width, height) {
  const corners = [];
  for (let i = 0; i < polygon.length; i += 2) {
    corners.push([Math.trunc(FINE * polygon[i] + 0.5), Math.trunc(FINE * polygon[i + 1] + 0.5)]);
  }
  corners.push(corners[0]);
  const turns = [];
  let [lastX, lastY] = [null, null];
  const step = (x, y) => {
    if (lastX !== null && x !== lastX) {
      const column = ((x < lastX ? x : x - 1) + 0.5) / FINE - 0.5;
      if (Number.isInteger(column) && column >= 0 && column < width) {
        const row = Math.ceil(Math.min(height, Math.max(0, ((y < lastY ? y : lastY) + 0.5) / FINE - 0.5)));
        turns.push(column * height + row);
      }
    }
    [lastX, lastY] = [x, y];
  };
  for (let i = 0; i + 1 < corners.length; i++) walk(corners[i], corners[i + 1], step);
  return turns;
}

/** Visits the points of an edge, one unit of its longer axis at a time. */
function walk(from, to, step) {
  const dx = Math.abs(to[0] - from[0]);
  const dy = Math.abs(to[1] - from[1]);
  // The direction that COCO walks in decides how halves are rounded.
  const flip = (dx >= dy && from[0] > to[0]) || (dx < dy && from[1] > to[1]);
  const [a, b] = flip ? [to, from] : [from, to];
  const length = Math.max(dx, dy);
  const slope = length ? (dx >= dy ? (b[1] - a[1]) / dx : (b[0] - a[0]) / dy) : 0;
  for (let d = 0; d <= length; d++) {
    const t = flip ? length - d : d;
    if (dx >= dy) step(a[0] + t, Math.trunc(a[1] + slope * t + 0.5));
    else step(Math.trunc(a[0] + slope * t + 0.5), a[1] + t);
  }
}
