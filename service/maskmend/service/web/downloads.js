// Refined masks as files.

import { encodePng } from "./png.js";
import { eachStretch, readRle } from "./rle.js";
import { zip } from "./zip.js";

/** COCO records: the given ones with mask, box and area brought up to date, or bare ones. */
export function recordsJson(instances, records) {
  const out = instances.map((instance, i) => ({
    ...(records?.[i] ?? {}),
    segmentation: instance.segmentation,
    bbox: instance.box,
    area: instance.area,
  }));
  return new Blob([JSON.stringify(out)], { type: "application/json" });
}

/** One gray PNG of all instances; `values` are theirs, 1, 2, 3 ... unless given; the first lies on top. */
export async function indexPng(instances, width, height, values) {
  const numbers = values ?? instances.map((_, i) => i + 1);
  const most = Math.max(0, ...numbers);
  if (most > 65535) throw new Error("A PNG holds at most 65535 instances.");
  const pixels = most > 255 ? new Uint16Array(width * height) : new Uint8Array(width * height);
  for (let i = instances.length - 1; i >= 0; i--) draw(instances[i], pixels, width, numbers[i]);
  return asPng(await encodePng(pixels, width, height));
}

function draw(instance, pixels, width, value) {
  eachStretch(readRle(instance.segmentation), (x, y, length) => {
    for (let row = y; row < y + length; row++) pixels[row * width + x] = value;
  });
}

async function maskBytes(instance, width, height) {
  const pixels = new Uint8Array(width * height);
  draw(instance, pixels, width, 255);
  return encodePng(pixels, width, height);
}

export async function maskPng(instance, width, height) {
  return asPng(await maskBytes(instance, width, height));
}

/** A ZIP of one PNG per instance. */
export async function masksZip(instances, width, height, stem) {
  const files = [];
  const digits = String(instances.length).length;
  for (const instance of instances) {
    const number = String(instance.index + 1).padStart(digits, "0");
    files.push({ name: `${stem}.mask-${number}.png`, bytes: await maskBytes(instance, width, height) });
  }
  return zip(files);
}

const asPng = (bytes) => new Blob([bytes], { type: "image/png" });

export function save(blob, name) {
  const anchor = document.createElement("a");
  anchor.href = URL.createObjectURL(blob);
  anchor.download = name;
  anchor.click();
  // At once would be too early for browsers that read the file later.
  setTimeout(() => URL.revokeObjectURL(anchor.href), 60_000);
}
