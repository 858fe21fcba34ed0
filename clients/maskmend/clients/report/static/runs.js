// COCO's compressed run lengths: five bits a character, from the fourth run on the difference to the one before last.

/** Pixels 0 and 1, row by row, of a mask whose runs go down its columns, background first. */
export function pixelsOf(counts, width, height) {
  const out = new Uint8Array(width * height);
  const runs = parseRuns(counts);
  let at = 0;
  for (let i = 0; i < runs.length; i++) {
    const end = Math.min(at + runs[i], out.length);
    if (i % 2) {
      for (let place = at; place < end; place++) out[(place % height) * width + Math.floor(place / height)] = 1;
    }
    at = end;
  }
  return out;
}

export function parseRuns(counts) {
  const runs = [];
  let value = 0;
  let shift = 0;
  for (let i = 0; i < counts.length; i++) {
    const group = counts.charCodeAt(i) - 48;
    value |= (group & 31) << shift;
    shift += 5;
    if (group & 32) continue;
    if (group & 16) value |= -1 << shift;
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
    value = 0;
    shift = 0;
  }
  return runs;
}
