// What a person may hand over as masks, and how the page reads it: to show it before it is sent, and to send it on.
//
// A source is what was chosen; `readMasks` gives
//   coarse   one mask per instance, or null where the page cannot read it (the server has the last word)
//   parts    fields and files of the request
//   records  the COCO records the masks came in, or null
//   values   the instances' values in an index PNG, or null
//   note     a sentence for the person, or ""

import { decodePng } from "./png.js";
import { fromPolygons } from "./polygons.js";
import { fromDense, readRle } from "./rle.js";

const isNumbers = (value) => Array.isArray(value) && value.length > 0 && value.every((n) => typeof n === "number");
const isPolygons = (value) => Array.isArray(value) && value.length > 0 && value.every(isNumbers);
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** Reads a source, {kind: "json", text} or {kind: "png", files, as: "mask" | "index"}, for an image. */
export async function readMasks(source, image) {
  if (source.kind === "json") return readJson(source.text, image);
  return source.as === "index" ? readIndex(source.files[0], image) : readPngs(source.files);
}

function readJson(text, image) {
  let given;
  try {
    given = JSON.parse(text);
  } catch (error) {
    throw new Error(`The masks are not JSON: ${error.message}`);
  }
  const { items, note } = chosen(given, image.name);
  const wrapped = items.map((item) => (isObject(item) && !("counts" in item) ? item.segmentation : item));
  return {
    coarse: wrapped.map((item) => attempt(() => readItem(item, image))),
    parts: [["masks", JSON.stringify(wrapped)]],
    records: items.some((item, i) => item !== wrapped[i]) ? items : null,
    values: null,
    note,
  };
}

function readItem(item, image) {
  return Array.isArray(item) ? fromPolygons(item, image.width, image.height) : readRle(item);
}

/** The items of a JSON document that belong to the image. */
function chosen(given, imageName) {
  if (isNumbers(given)) return { items: [[given]], note: "" };
  // A list of flat lists could be one instance of several parts only: instances are lists of such lists.
  if (isPolygons(given)) return { items: [given], note: "" };
  const table = isObject(given) && Array.isArray(given.annotations);
  const items = table ? given.annotations : isObject(given) ? [given] : given;
  if (!Array.isArray(items) || !items.length) throw new Error("The JSON holds no masks.");
  const images = new Set(items.map((item) => (isObject(item) ? item.image_id : undefined)));
  if (images.size < 2) return { items, note: "" };
  const names = new Map();
  if (table) for (const entry of given.images ?? []) names.set(entry.id, entry.file_name);
  const mine = items.filter((item) => fileName(item.file_name ?? names.get(item.image_id)) === imageName);
  if (!mine.length) {
    throw new Error(
      `The JSON holds masks of ${images.size} images, none of them called ${imageName}. Give the records of this image alone.`,
    );
  }
  return { items: mine, note: `${mine.length} of ${items.length} records belong to ${imageName}.` };
}

const fileName = (path) => (typeof path === "string" ? path.split("/").pop() : null);

async function readPngs(files) {
  return {
    coarse: await Promise.all(files.map((file) => attempt(() => readMask(file)))),
    parts: files.map((file) => ["mask", file]),
    records: null,
    values: null,
    note: "",
  };
}

async function readMask(file) {
  const png = await decodePng(await file.arrayBuffer());
  if (png) {
    const lit = png.palette && colours(png).map(Boolean);
    return fromDense(lit ? png.values.map((value) => lit[value]) : png.values, png.width, png.height);
  }
  const bitmap = await createImageBitmap(file, { premultiplyAlpha: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const values = new Uint8Array(bitmap.width * bitmap.height);
  for (let i = 0; i < values.length; i++) values[i] = data[4 * i] | data[4 * i + 1] | data[4 * i + 2];
  return fromDense(values, bitmap.width, bitmap.height);
}

async function readIndex(file) {
  const read = { coarse: [], parts: [["index_mask", file]], records: null, values: null, note: "" };
  const png = await attempt(async () => decodePng(await file.arrayBuffer()));
  if (!png) return { ...read, note: "The index PNG cannot be shown before it is refined." };
  // Entries of one colour are one instance to the server, which sees the colours.
  if (png.palette) {
    const first = colours(png).map((colour, _, all) => all.indexOf(colour));
    png.values = png.values.map((value) => first[value]);
  }
  const values = indexValues(png);
  const one = new Uint8Array(png.values.length);
  for (const value of values) {
    for (let i = 0; i < one.length; i++) one[i] = png.values[i] === value;
    read.coarse.push(fromDense(one, png.width, png.height));
  }
  return { ...read, values };
}

/** Colours of a palette as numbers; black is 0. */
function colours({ palette }) {
  return Array.from({ length: palette.length / 3 }, (_, i) => {
    return (palette[3 * i] << 16) | (palette[3 * i + 1] << 8) | palette[3 * i + 2];
  });
}

const indexValues = (png) => [...new Set(png.values)].filter((value) => value > 0).sort((a, b) => a - b);

/** Whether a PNG is more likely an index of instances than one mask. */
export async function looksLikeIndex(file) {
  const png = await attempt(async () => decodePng(await file.arrayBuffer()));
  if (!png) return false;
  const values = indexValues(png);
  // Soft edges of a mask give many grays up to white; an index counts up from 1.
  return values.length > 1 && (png.palette || values.at(-1) < 255 || png.values instanceof Uint16Array);
}

/** The outcome, or null where it fails: the server judges what it is sent, and says better what is wrong. */
function attempt(read) {
  try {
    const outcome = read();
    return outcome instanceof Promise ? outcome.catch(() => null) : outcome;
  } catch {
    return null;
  }
}

export const sameSize = (a, b) => a.width === b.width && a.height === b.height;
