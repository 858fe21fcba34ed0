// Which instances the gallery shows, and in which order.

const missing = (value) => value === null || value === undefined;
const gain = (row) => (missing(row.after) ? null : row.after - row.before);

/** [key, title, value of a row, whether large values come first]. Rows without a value come last. */
export const SORTS = [
  ["changed", "most changed", (row) => row.changed, true],
  ["share", "most changed for its size", (row) => row.changed / Math.max(1, row.area), true],
  ["farthest", "farthest moved", (row) => row.farthest, true],
  ["unsure", "least sure", (row) => row.score ?? row.confidence, false],
  ["kept", "kept by the guard", (row) => (row.kept ? 1 - (row.score ?? 0) : null), false],
  ["largest", "largest", (row) => row.area, true],
  ["gain", "largest gain (ground truth)", gain, true],
  ["harm", "largest harm (ground truth)", gain, false],
  ["number", "order of the file", (row) => row.number, false],
];

/** Sorts that tell these rows apart. */
export function sortsFor(rows) {
  return SORTS.filter(([, , value]) => rows.some((row) => !missing(value(row))));
}

/** Rows that fit, in order; `label` and `outcome` are numbers or null, `text` is what a name or number must hold. */
export function chosen(rows, { sort, label, outcome, text }) {
  const [, , value, down] = SORTS.find(([key]) => key === sort) ?? SORTS[0];
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return rows
    .filter((row) => (label === null || row.label === label) && (outcome === null || row.outcome === outcome))
    .filter((row) => words.every((word) => row.words.includes(word)))
    .map((row) => [value(row), row])
    .sort(([a, one], [b, two]) => order(a, b, down) || one.number - two.number)
    .map(([, row]) => row);
}

function order(a, b, down) {
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  return down ? b - a : a - b;
}
