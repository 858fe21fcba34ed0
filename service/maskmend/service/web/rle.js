// COCO run-length masks: lengths of runs down the columns, background first.
// A mask is {height, width, runs}; only its first run may be 0, so that equal masks have equal runs.

const SHORT = "the counts end in the middle of a number";
const ODD = "the counts hold something that is not a run length";

/** Runs of COCO's compressed text. */
export function parseCounts(text) {
  const runs = [];
  let at = 0;
  while (at < text.length) {
    let value = 0;
    let shift = 0;
    let more = true;
    while (more) {
      if (at >= text.length) throw new Error(SHORT);
      const group = text.charCodeAt(at++) - 48;
      // Six groups of five bits hold every run of a mask within the limits, and stay clear of JavaScript's 32-bit shifts.
      if (!(group >= 0 && group < 64) || shift > 25) throw new Error(ODD);
      value |= (group & 31) << shift;
      shift += 5;
      more = (group & 32) !== 0;
      if (!more && group & 16) value |= -1 << shift;
    }
    // From the fourth run on COCO writes the difference to the run of the same colour before.
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  return runs;
}

/** COCO's compressed text of runs, character for character as COCO's own tools write it. */
export function formatCounts(runs) {
  let text = "";
  for (let i = 0; i < runs.length; i++) {
    let value = i > 2 ? runs[i] - runs[i - 2] : runs[i];
    let more = true;
    while (more) {
      const group = value & 31;
      value >>= 5;
      more = group & 16 ? value !== -1 : value !== 0;
      text += String.fromCharCode((more ? group | 32 : group) + 48);
    }
  }
  return text;
}

/** A mask of a COCO RLE, {size: [height, width], counts: text or list}. */
export function readRle(coco) {
  const [height, width] = Array.isArray(coco.size) ? coco.size : [];
  if (!(Number.isInteger(height) && Number.isInteger(width) && height > 0 && width > 0)) {
    throw new Error("the size must be [height, width]");
  }
  const given = typeof coco.counts === "string" ? parseCounts(coco.counts) : coco.counts;
  if (!Array.isArray(given)) throw new Error("the counts must be a text or a list");
  const runs = [0];
  let total = 0;
  given.forEach((run, i) => {
    if (!Number.isInteger(run) || run < 0) throw new Error(ODD);
    total += run;
    if (i === 0) runs[0] = run;
    else if (run === 0) return;
    // An empty run in between leaves two of one colour side by side.
    else if ((runs.length & 1) === (i & 1)) runs.push(run);
    else runs[runs.length - 1] += run;
  });
  if (total !== height * width) throw new Error("the runs do not fill height x width");
  return { height, width, runs: Uint32Array.from(runs) };
}

/** The COCO RLE of a mask. */
export function writeRle(mask) {
  return { size: [mask.height, mask.width], counts: formatCounts(mask.runs) };
}

/** A mask of pixels row by row; every value but 0 is foreground. */
export function fromDense(pixels, width, height) {
  const runs = [];
  let colour = 0;
  let length = 0;
  for (let x = 0; x < width; x++) {
    for (let at = x; at < width * height; at += width) {
      const here = pixels[at] ? 1 : 0;
      if (here !== colour) {
        runs.push(length);
        length = 0;
        colour = here;
      }
      length++;
    }
  }
  runs.push(length);
  return { height, width, runs: Uint32Array.from(runs) };
}

/** A mask of stretches [start, end) counted down the columns; they may overlap and come in any order. */
export function fromStretches(stretches, width, height) {
  const runs = [];
  let end = 0;
  for (const [from, to] of [...stretches].sort((a, b) => a[0] - b[0])) {
    if (to <= end || to <= from) continue;
    if (runs.length && from <= end) {
      runs[runs.length - 1] += to - end;
    } else {
      runs.push(from - end, to - from);
    }
    end = to;
  }
  if (end < width * height || !runs.length) runs.push(width * height - end);
  return { height, width, runs: Uint32Array.from(runs) };
}

/** Calls visit(x, y, length) for each piece of foreground within one column. */
export function eachStretch(mask, visit) {
  const { height, runs } = mask;
  let at = 0;
  for (let i = 0; i < runs.length; i++) {
    const end = at + runs[i];
    if (i & 1) {
      for (let from = at; from < end; ) {
        const y = from % height;
        const length = Math.min(end - from, height - y);
        visit((from - y) / height, y, length);
        from += length;
      }
    }
    at = end;
  }
}

/** Pixels 0 and 1 of a rectangle of the mask, row by row. */
export function crop(mask, x0, y0, width, height) {
  const out = new Uint8Array(width * height);
  eachStretch(mask, (x, y, length) => {
    if (x < x0 || x >= x0 + width) return;
    const last = Math.min(y + length, y0 + height);
    for (let row = Math.max(y, y0); row < last; row++) out[(row - y0) * width + x - x0] = 1;
  });
  return out;
}

/** Whether a pixel is foreground. */
export function contains(mask, x, y) {
  if (x < 0 || y < 0 || x >= mask.width || y >= mask.height) return false;
  const place = x * mask.height + y;
  let end = 0;
  for (let i = 0; i < mask.runs.length; i++) {
    end += mask.runs[i];
    if (place < end) return (i & 1) === 1;
  }
  return false;
}

/** Number of foreground pixels. */
export function area(mask) {
  let total = 0;
  for (let i = 1; i < mask.runs.length; i += 2) total += mask.runs[i];
  return total;
}

/** Smallest box [x, y, width, height] around the foreground; zeros when there is none. */
export function box(mask) {
  let [x0, y0, x1, y1] = [Infinity, Infinity, 0, 0];
  eachStretch(mask, (x, y, length) => {
    x0 = Math.min(x0, x);
    x1 = Math.max(x1, x + 1);
    y0 = Math.min(y0, y);
    y1 = Math.max(y1, y + length);
  });
  return x1 ? [x0, y0, x1 - x0, y1 - y0] : [0, 0, 0, 0];
}
