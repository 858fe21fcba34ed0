// Reads the report and fills the page. Whatever it says may come from strangers: it is shown as text, never as markup.

import { chartOf } from "./charts.js";
import { Detail } from "./detail.js";
import { chosen, sortsFor } from "./filters.js";
import { Gallery, ON_A_PAGE } from "./gallery.js";

const $ = (id) => document.getElementById(id);
const count = (value) => value.toLocaleString("en");
const MEASURES = { iou: "IoU", f1px: "boundary F, 1 px", f3px: "boundary F, 3 px", mba: "mBA" };
const TYPING_MS = 120;

const report = JSON.parse($("report").textContent);
const outcomes = report.outcomes.map(([name]) => name);
const rows = report.rows.map((cells, place) => {
  const row = Object.fromEntries(report.columns.map((name, n) => [name, cells[n]]));
  const names = [report.images[row.image], report.labels[row.label], `#${row.number}`];
  // The first two outcomes are those of masks that were not kept by a guard.
  return { ...row, place, kept: row.outcome > 1, words: names.join(" ").toLowerCase() };
});

const outcomeName = (number) => `${number > 1 ? "kept: " : ""}${outcomes[number]}`;

function nameOf(row) {
  return `${report.labels[row.label] || "record"} #${row.number}`;
}

const signed = (value, digits) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;

/** The last line of a card: [text, class]. */
function outcomeOf(row) {
  if (row.kept) return ["kept", "kept"];
  if (!row.changed) return ["unchanged", "kept"];
  const far = `${row.farthest.toFixed(1)} px far`;
  if (row.after === null) return [far, ""];
  const gain = row.after - row.before;
  const turn = gain >= 0.0005 ? "better" : gain <= -0.0005 ? "worse" : "";
  return [`${far}, IoU ${signed(gain, 3)}`, turn];
}

function toldOf(row) {
  const told = [["photograph", report.images[row.image]], ["outcome", outcomeName(row.outcome)]];
  told.push(["changed", `${count(row.changed)} px of ${count(row.area)} px`]);
  if (row.changed) {
    told.push(["farthest moved", `${row.farthest.toFixed(2)} px`], ["mean shift outwards", `${signed(row.shift, 2)} px`]);
  }
  for (const [name, value] of [["score", row.score], ["confidence", row.confidence], ["segmenter's score", row.segmenter]]) {
    if (value !== null) told.push([name, value.toFixed(3)]);
  }
  return told;
}

const gallery = new Gallery($("cards"), (row) => ({
  name: nameOf(row),
  told: row.changed ? `${count(row.changed)} px changed` : report.images[row.image],
  outcome: outcomeOf(row),
}), open);
const measures = report.measures.map((name) => MEASURES[name] ?? name);
const detail = new Detail(report.sides, measures, toldOf, step, (row) => gallery.focus(row));

function open(row) {
  const place = gallery.rows.indexOf(row);
  detail.open(row, `${nameOf(row)} (${count(place + 1)} of ${count(gallery.rows.length)})`, place, gallery.rows.length);
}

function step(row, by) {
  const next = gallery.rows[gallery.rows.indexOf(row) + by];
  if (next) open(next);
}

function select() {
  const number = (id) => ($(id).value === "" ? null : Number($(id).value));
  const found = chosen(rows, { sort: $("sort").value, label: number("label"), outcome: number("outcome"), text: $("text").value });
  const shown = found.length === rows.length ? count(rows.length) : `${count(found.length)} of ${count(rows.length)}`;
  const left = report.all > rows.length ? `, the most changed of ${count(report.all)}` : "";
  $("found").textContent = `${shown} instances${left}`;
  $("none").hidden = found.length > 0;
  turn(found, 0);
}

function turn(found, page) {
  gallery.show(found, page);
  const [first, last] = [gallery.page * ON_A_PAGE + 1, Math.min(found.length, (gallery.page + 1) * ON_A_PAGE)];
  $("page").textContent = found.length ? `${count(first)} to ${count(last)}` : "";
  $("previous").disabled = gallery.page === 0;
  $("next").disabled = gallery.page === gallery.pages - 1;
}

function fillSelect(id, entries) {
  $(id).replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
}

function fillHead() {
  $("title").textContent = report.title;
  [$("side-before").textContent, $("side-after").textContent] = report.sides;
  $("counts").replaceChildren(...report.counts.map(([name, value, hint]) => {
    const tile = document.createElement("div");
    for (const [tag, text] of [["dt", name], ["dd", count(value)], ["dd", hint]]) {
      if (text === "") continue;
      const part = document.createElement(tag);
      part.textContent = text;
      if (text === hint) part.className = "hint";
      tile.append(part);
    }
    return tile;
  }));
  report.outcomes.forEach(([, value], n) => {
    if (value) addRow($("outcomes").tBodies[0], [outcomeName(n), count(value)]);
  });
  $("outcomes-panel").hidden = report.all === 0;
}

function fillTruth() {
  const { gains, totals } = report;
  $("totals-panel").hidden = $("key-truth").hidden = !gains;
  if (!gains) return;
  $("gains").textContent = `${count(gains.matched)} of ${count(report.all)} instances have a true one at IoU > 0.5. `
    + `IoU went up by more than ${gains.tolerance} for ${count(gains.improved)}, down for ${count(gains.harmed)}.`;
  totals.forEach((cells, n) => addRow(n ? $("totals").tBodies[0] : $("totals").tHead, cells, n ? "row" : "col"));
  $("totals").hidden = totals.length === 0;
  $("note").textContent = report.note;
}

function fillRest() {
  for (const [name, value] of report.facts) {
    const [term, text] = [document.createElement("dt"), document.createElement("dd")];
    [term.textContent, text.textContent] = [name, value];
    $("facts").append(term, text);
  }
  $("facts-panel").hidden = report.facts.length === 0;
  $("errors-panel").hidden = report.failed === 0;
  const more = report.failed > report.errors.length ? `, the first ${count(report.errors.length)}` : "";
  $("errors-title").textContent = `Records with an error (${count(report.failed)}${more})`;
  for (const cells of report.errors) addRow($("errors").tBodies[0], cells.map((cell) => cell ?? ""));
  $("charts").replaceChildren(...report.histograms.map(chartOf));
}

function addRow(body, cells, scope = "row") {
  const row = body.insertRow();
  cells.forEach((text, n) => {
    const heading = scope === "col" || n === 0;
    const cell = document.createElement(heading ? "th" : "td");
    if (heading) cell.scope = scope;
    cell.textContent = text;
    row.append(cell);
  });
}

function fillFilters() {
  const tally = (key) => rows.reduce((counts, row) => counts.set(row[key], (counts.get(row[key]) ?? 0) + 1), new Map());
  const [labels, kinds] = [tally("label"), tally("outcome")];
  fillSelect("sort", sortsFor(rows).map(([key, title]) => [key, title]));
  fillSelect("label", [["", "all"], ...report.labels.map((name, n) => [n, `${name || "without a name"} (${count(labels.get(n) ?? 0)})`])]);
  fillSelect("outcome", [["", "all"], ...outcomes.map((_, n) => [n, `${outcomeName(n)} (${count(kinds.get(n) ?? 0)})`]).filter(([n]) => kinds.has(n))]);
  $("label-field").hidden = report.labels.length < 2;
  for (const id of ["sort", "label", "outcome"]) $(id).addEventListener("change", select);
  let timer = 0;
  $("text").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(select, TYPING_MS);
  });
  for (const [id, by] of [["previous", -1], ["next", 1]]) {
    $(id).addEventListener("click", () => {
      turn(gallery.rows, gallery.page + by);
      $("gallery").scrollIntoView();
    });
  }
}

fillHead();
fillTruth();
fillFilters();
select();
fillRest();
document.documentElement.dataset.ready = "yes";
