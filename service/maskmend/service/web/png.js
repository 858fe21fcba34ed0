// Single-channel PNG in and out. The browser's own decoder turns palettes and 16-bit values into colours, and its
// encoder writes colours only; masks need the numbers themselves.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const MOST_PIXELS = 2 ** 28;

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/** CRC-32 of bytes, as PNG and ZIP use it. */
export function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

async function through(stream, bytes) {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());
}

/**
 * Width, height, values (gray levels or palette indices, row by row) and the palette ([r, g, b, ...] or null).
 * Null for PNGs that are in colour or interlaced.
 */
export async function decodePng(buffer) {
  const bytes = new Uint8Array(buffer);
  const view = new DataView(buffer);
  if (bytes.length < 33 || SIGNATURE.some((byte, i) => bytes[i] !== byte)) throw new Error("this is not a PNG");
  const [width, height] = [view.getUint32(16), view.getUint32(20)];
  const [depth, colour, interlace] = [bytes[24], bytes[25], bytes[28]];
  if ((colour !== 0 && colour !== 3) || interlace) return null;
  if (!width || !height || width * height > MOST_PIXELS) throw new Error("the PNG is too large");
  const data = [];
  let palette = null;
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (kind === "IDAT") data.push(bytes.subarray(at + 8, at + 8 + length));
    if (kind === "PLTE") palette = bytes.slice(at + 8, at + 8 + length);
    at += 12 + length;
  }
  if (colour === 3 && !palette) throw new Error("the PNG lacks its palette");
  const raw = await through(new DecompressionStream("deflate"), new Blob(data));
  const stride = Math.ceil((width * depth) / 8);
  if (raw.length < (stride + 1) * height) throw new Error("the PNG was cut short");
  unfilter(raw, stride, height, Math.max(1, depth >> 3));
  return { width, height, palette: colour === 3 ? palette : null, values: samples(raw, width, height, depth, stride) };
}

/** Undoes PNG's prediction of bytes from their neighbours, in place. */
function unfilter(raw, stride, height, step) {
  for (let y = 0; y < height; y++) {
    const row = y * (stride + 1) + 1;
    const filter = raw[row - 1];
    const above = row - stride - 1;
    for (let i = 0; i < stride && filter; i++) {
      const left = i >= step ? raw[row + i - step] : 0;
      const up = y ? raw[above + i] : 0;
      const corner = y && i >= step ? raw[above + i - step] : 0;
      if (filter === 1) raw[row + i] += left;
      else if (filter === 2) raw[row + i] += up;
      else if (filter === 3) raw[row + i] += (left + up) >> 1;
      else raw[row + i] += paeth(left, up, corner);
    }
  }
}

function paeth(left, up, corner) {
  const guess = left + up - corner;
  const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - corner)];
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

function samples(raw, width, height, depth, stride) {
  const values = depth === 16 ? new Uint16Array(width * height) : new Uint8Array(width * height);
  const most = (1 << Math.min(depth, 8)) - 1;
  for (let y = 0, out = 0; y < height; y++) {
    const row = y * (stride + 1) + 1;
    for (let x = 0; x < width; x++, out++) {
      if (depth === 16) values[out] = (raw[row + 2 * x] << 8) | raw[row + 2 * x + 1];
      else {
        const bit = x * depth;
        values[out] = (raw[row + (bit >> 3)] >> (8 - depth - (bit & 7))) & most;
      }
    }
  }
  return values;
}

/** A gray PNG of values row by row, of 8 bits (Uint8Array) or 16 (Uint16Array). */
export async function encodePng(values, width, height) {
  const wide = values.BYTES_PER_ELEMENT === 2;
  const stride = width * (wide ? 2 : 1);
  const raw = new Uint8Array((stride + 1) * height);
  for (let y = 0; y < height; y++) {
    const row = values.subarray(y * width, (y + 1) * width);
    const start = y * (stride + 1) + 1; // a filter byte of 0 begins each row
    if (!wide) raw.set(row, start);
    else row.forEach((value, x) => raw.set([value >> 8, value & 255], start + 2 * x));
  }
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header[8] = wide ? 16 : 8;
  const data = await through(new CompressionStream("deflate"), raw);
  const parts = [Uint8Array.from(SIGNATURE), chunk("IHDR", header), chunk("IDAT", data), chunk("IEND", new Uint8Array())];
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

function chunk(kind, data) {
  const out = new Uint8Array(data.length + 12);
  const view = new DataView(out.buffer);
  view.setUint32(0, data.length);
  for (let i = 0; i < 4; i++) out[4 + i] = kind.charCodeAt(i);
  out.set(data, 8);
  view.setUint32(data.length + 8, crc32(out.subarray(4, data.length + 8)));
  return out;
}
