// Histograms, drawn once.

const WIDTH = 320;
const FLOOR = 110;
const TALLEST = 92;

/** A figure of {title, unit, edges, counts, note}. */
export function chartOf({ title, unit, edges, counts, note }) {
  const figure = document.getElementById("chart").content.cloneNode(true).firstElementChild;
  const svg = figure.querySelector("svg");
  const draw = (name, attributes, text) => {
    const element = document.createElementNS(svg.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const most = Math.max(...counts);
  const step = WIDTH / counts.length;
  const measure = unit ? ` ${unit}` : "";
  const range = (n) => `${edges[n]} to ${edges[n + 1]}${measure}${beyond(n, counts.length)}`;
  counts.forEach((count, n) => {
    const height = count ? Math.max(1.5, (TALLEST * count) / most) : 0;
    const bar = draw("rect", { x: n * step + 0.75, y: FLOOR - height, width: step - 1.5, height });
    bar.append(draw("title", {}, `${range(n)}: ${count.toLocaleString("en")}`));
    svg.querySelector("g").append(bar);
    const row = figure.querySelector("tbody").insertRow();
    for (const cell of [edges[n], edges[n + 1], count]) row.insertCell().textContent = cell;
  });
  const last = edges.length - 1;
  for (const [n, anchor] of [[0, "start"], [Math.round(last / 2), "middle"], [last, "end"]]) {
    svg.append(draw("text", { x: n * step, y: FLOOR + 16, "text-anchor": anchor }, `${edges[n]}${n === last ? measure : ""}`));
  }
  const peak = counts.indexOf(most);
  svg.append(draw("text", { x: Math.min(WIDTH - 20, Math.max(20, (peak + 0.5) * step)), y: FLOOR - TALLEST - 6, "text-anchor": "middle" }, most.toLocaleString("en")));
  svg.ariaLabel = `Histogram, ${title}; ${note}. Most, ${most}, from ${range(peak)}.`;
  const caption = figure.querySelector("figcaption");
  const hint = document.createElement("span");
  hint.className = "hint";
  hint.textContent = note;
  caption.append(title, hint);
  return figure;
}

const beyond = (n, bins) => (n === 0 ? " or less" : n === bins - 1 ? " or more" : "");
