// A ZIP of files that are stored as they are: PNGs are compressed already.

import { crc32 } from "./png.js";

const STORED_SINCE = 20; // "version needed" of plain files
const UTF8_NAMES = 0x0800;
const NEW_YEAR_1980 = 0x21; // ZIP's first day, so that equal masks make equal files

/** files: [{name, bytes}]. */
export function zip(files) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { name, bytes } of files) {
    const text = new TextEncoder().encode(name);
    const fields = [
      [2, STORED_SINCE], [2, UTF8_NAMES], [2, 0], [2, 0], [2, NEW_YEAR_1980],
      [4, crc32(bytes)], [4, bytes.length], [4, bytes.length], [2, text.length], [2, 0],
    ];
    const local = packed([[4, 0x04034b50], ...fields]);
    parts.push(local, text, bytes);
    const rest = [[2, 0], [2, 0], [2, 0], [4, 0], [4, offset]];
    directory.push(packed([[4, 0x02014b50], [2, STORED_SINCE], ...fields, ...rest]), text);
    offset += local.length + text.length + bytes.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = packed([
    [4, 0x06054b50], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, size], [4, offset], [2, 0],
  ]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** Little-endian numbers, each given as [bytes, value]. */
function packed(fields) {
  const out = new DataView(new ArrayBuffer(fields.reduce((sum, [bytes]) => sum + bytes, 0)));
  let at = 0;
  for (const [bytes, value] of fields) {
    if (bytes === 2) out.setUint16(at, value, true);
    else out.setUint32(at, value, true);
    at += bytes;
  }
  return new Uint8Array(out.buffer);
}
