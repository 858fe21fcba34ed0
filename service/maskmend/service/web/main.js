// The page: what was chosen, what came back, and which part shows it.

import * as api from "./api.js";
import * as downloads from "./downloads.js";
import { listen } from "./gestures.js";
import { looksLikeIndex, readMasks } from "./masks.js";
import { readOptions, watchOptions, fillWeights } from "./options.js";
import { area, contains, readRle } from "./rle.js";
import { credit, loadSamples, sampleButton, sampleFile } from "./samples.js";
import { colourOf, makeSprite } from "./sprites.js";
import { InstanceTable } from "./table.js";
import { View } from "./view.js";

const at = (id) => document.getElementById(id);
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

const state = {
  image: null, // {file, name, width, height}
  source: null, // see masks.js
  sample: null,
  masks: null, // what readMasks made of the source
  answer: null,
  refined: [], // masks of the answer
  options: {}, // that the answer was made with
  busy: null, // AbortController of the request on its way
  turn: 0, // counts choices, so that a slow one does not overwrite a later one
};

const view = new View(at("canvas"), showZoom);
const table = new InstanceTable(at("table"), select);

// ---- choosing

async function chooseImage(file, sample = null) {
  const turn = ++state.turn;
  clearError();
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    showError(new Error(`${file.name} is not an image this browser can show. PNG, JPEG, WebP and BMP work.`));
    return;
  }
  if (turn !== state.turn) return bitmap.close();
  stop();
  // Masks of a sample belong to its photograph and to no other.
  if (state.sample && !sample) setSource(null, "");
  state.sample = sample;
  state.image = { file, name: file.name, width: bitmap.width, height: bitmap.height };
  at("image-text").textContent = `${file.name}, ${bitmap.width} × ${bitmap.height} px`;
  at("image-drop").classList.add("chosen");
  at("empty").hidden = true;
  at("credit").hidden = !sample;
  at("credit").replaceChildren(...(sample ? [credit(sample)] : []));
  view.setImage(bitmap);
  await preview();
}

async function chooseMasks(files) {
  const list = [...files];
  const json = list.filter((file) => /\.json$/i.test(file.name) || file.type === "application/json");
  if (json.length) {
    if (list.length > 1) return showError(new Error("Choose one JSON file, or PNG files, not both."));
    setSource({ kind: "json", text: await json[0].text() }, json[0].name);
  } else {
    const as = list.length === 1 && (await looksLikeIndex(list[0])) ? "index" : "mask";
    at("png-as").value = as;
    setSource({ kind: "png", files: list, as }, list.length === 1 ? list[0].name : plural(list.length, "PNG file"));
  }
  await preview();
}

async function chooseSample(sample) {
  try {
    const file = await sampleFile(sample);
    setSource({ kind: "json", text: JSON.stringify(sample.masks) }, `“${sample.title}”`);
    await chooseImage(file, sample);
  } catch (error) {
    showError(error);
  }
}

function setSource(source, name) {
  state.source = source && { ...source, name };
  state.masks = null;
  at("masks-drop").classList.toggle("chosen", Boolean(source));
  at("masks-text").textContent = source ? name : "Drop COCO JSON, PNG masks or an index PNG";
  at("png-kind").hidden = source?.kind !== "png";
  at("png-as").querySelector("[value=index]").disabled = source?.kind === "png" && source.files.length > 1;
}

/** Read the masks for the image and show both as they came. */
async function preview() {
  stop();
  clearError();
  state.answer = null;
  at("results").hidden = true;
  showMode();
  at("refine").disabled = true;
  if (!state.image || !state.source) {
    view.setInstances([], false);
    say(state.image ? "Now choose the masks." : state.source ? "Now choose the image." : "");
    return;
  }
  const { source, image } = state;
  let masks;
  try {
    masks = await readMasks(source, image);
  } catch (error) {
    view.setInstances([], false);
    say("");
    return showError(error);
  }
  if (source !== state.source || image !== state.image) return;
  state.masks = masks;
  const fitting = masks.coarse.map((mask) => (mask && sameSize(mask, image) ? mask : null));
  view.setInstances(fitting.map((mask, i) => makeSprite(mask, null, colourOf(i), image)), false);
  const count = masks.coarse.length;
  if (count) at("masks-text").textContent = `${plural(count, "mask")} from ${source.name}`;
  at("refine").disabled = false;
  const odd = masks.coarse.find((mask) => mask && !sameSize(mask, image));
  const size = odd && `A mask is ${odd.width} × ${odd.height} px, the image ${image.width} × ${image.height} px.`;
  say([masks.note, size || "Ready to refine."].filter(Boolean).join(" "));
}

const sameSize = (a, b) => a.width === b.width && a.height === b.height;

// ---- refining

async function refine() {
  if (state.busy) return stop();
  const { image, masks } = state;
  const busy = new AbortController();
  state.busy = busy;
  clearError();
  working(true);
  say(masks.coarse.length ? `Refining ${plural(masks.coarse.length, "mask")} …` : "Refining …");
  const options = readOptions();
  try {
    const answer = await api.refine(image.file, masks.parts, options, busy.signal);
    if (state.busy === busy) show(answer, options);
  } catch (error) {
    if (state.busy !== busy || error.name === "AbortError") return;
    say("");
    showError(error);
  } finally {
    if (state.busy === busy) {
      state.busy = null;
      working(false);
    }
  }
}

/** Give up the request on its way. */
function stop() {
  if (!state.busy) return;
  state.busy.abort();
  state.busy = null;
  working(false);
  say("Cancelled.");
}

function working(is) {
  at("busy").hidden = !is;
  at("stage").ariaBusy = String(is);
  at("refine").textContent = is ? "Cancel" : "Refine";
  at("refine").classList.toggle("primary", !is);
}

function show(answer, options) {
  const { image, masks } = state;
  Object.assign(state, { answer, options, refined: answer.instances.map((one) => readRle(one.segmentation)) });
  view.setInstances(
    answer.instances.map((one, i) => {
      const coarse = masks.coarse[i] && sameSize(masks.coarse[i], image) ? masks.coarse[i] : null;
      return makeSprite(coarse, state.refined[i], colourOf(one.index), image);
    }),
    true,
    // Not below a few px, so that a pixel more or less does not look like much.
    Math.ceil(Math.max(4, ...answer.instances.map((one) => one.max_displacement_px ?? 0))),
  );
  table.selected = null;
  table.show(answer.instances);
  at("results").hidden = false;
  at("facts").textContent = "";
  at("save-one").disabled = true;
  const refined = answer.instances.filter((one) => !one.abstained && one.changed_pixels).length;
  const kept = answer.instances.length - refined;
  const total = answer.timings?.total;
  const told = `${refined} refined, ${kept} kept as they came`;
  at("summary").textContent = told;
  say(`${plural(answer.instances.length, "mask")}: ${told}${total ? `, in ${total.toFixed(2)} s` : ""}.`);
  list(at("timings"), Object.entries(answer.timings ?? {}).map(([stage, seconds]) => [stage, `${seconds.toFixed(3)} s`]));
  list(at("provenance"), [...Object.entries(answer.provenance), ["request", answer.request_id]]);
  at("legend-range").textContent = `from 1 px (dark) to ${view.farthest} px (bright) off the coarse edge`;
  showMode();
  // Where the picture lies below the button it would come unseen.
  if (matchMedia("(max-width: 900px)").matches) at("stage").scrollIntoView({ block: "center" });
}

function list(target, entries) {
  target.replaceChildren(
    ...entries.flatMap(([name, value]) => {
      const [term, text] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = name;
      text.textContent = value;
      return [term, text];
    }),
  );
}

// ---- looking

function showMode() {
  const has = Boolean(state.answer);
  const mode = document.querySelector("input[name=mode]:checked").value;
  const comparing = has && mode === "compare";
  at("modes").disabled = !has;
  at("split").hidden = at("tag-before").hidden = at("tag-after").hidden = !comparing;
  at("legend").hidden = !(has && mode === "changes");
  at("opacity").disabled = has && mode === "changes";
  view.set({ mode });
}

function showZoom() {
  at("zoom-value").textContent = view.bitmap ? `${Math.round(100 * view.scale)}%` : "–";
  // At rest a finger scrolls the page; once zoomed in, it moves the picture.
  at("canvas").classList.toggle("zoomed", Boolean(view.bitmap) && view.scale > view.fitScale * 1.001);
}

function setSplit() {
  const share = Number(at("split").value);
  at("split").ariaValueText = `${share}% before, ${100 - share}% after`;
  view.set({ split: share / 100 });
}

/** Show an instance; null shows all alike again. */
function select(index) {
  const number = state.answer.instances.findIndex((one) => one.index === index);
  const one = state.answer.instances[number];
  view.set({ selected: one ? number : null });
  table.mark(index);
  at("save-one").disabled = !one;
  at("facts").textContent = one ? facts(one) : "";
  if (!one) return;
  const sprite = view.sprites[number];
  if (sprite) {
    view.zoomTo([sprite.x, sprite.y, sprite.width, sprite.height]);
    // The border goes through the instance, also where the picture's end keeps it from the middle.
    const middle = (view.x + (sprite.x + sprite.width / 2) * view.scale) / at("canvas").clientWidth;
    at("split").value = Math.round(100 * middle);
    setSplit();
  }
  at("stage").scrollIntoView({ block: "nearest" });
}

function facts(one) {
  const [x, y, width, height] = one.box;
  const undone = Object.entries(one.undone ?? {}).filter(([, pixels]) => pixels > 0);
  const tail = undone.length
    ? ` The guard undid ${undone.map(([reason, pixels]) => `${pixels.toLocaleString("en")} px (${reason})`).join(", ")}.`
    : "";
  return `Instance ${one.index + 1}: ${one.area.toLocaleString("en")} px, ${width} × ${height} px at ${x}, ${y}.${tail}`;
}

/** The smallest instance at a pixel is the one that was meant. */
function pick([x, y]) {
  if (!state.answer) return;
  let best = null;
  state.refined.forEach((mask, i) => {
    if (contains(mask, x, y) && (best === null || area(mask) < area(state.refined[best]))) best = i;
  });
  view.set({ selected: best });
  const index = best === null ? null : state.answer.instances[best].index;
  table.mark(index)?.scrollIntoView({ block: "nearest" });
  at("save-one").disabled = best === null;
  at("facts").textContent = best === null ? "" : facts(state.answer.instances[best]);
}

// ---- telling

function say(text) {
  at("status").textContent = text;
}

function clearError() {
  at("error").hidden = true;
}

function showError(error) {
  const panel = at("error");
  const message = document.createElement("p");
  message.textContent = error.message;
  const rows = [["code", error.code], ["field", error.field], ["request", error.requestId]].filter(([, value]) => value);
  if (error.retryAfter != null) rows.push(["try again in", `${error.retryAfter} s`]);
  const details = document.createElement("dl");
  list(details, rows);
  panel.replaceChildren(message, ...(rows.length ? [details] : []));
  panel.hidden = false;
  if (error.status === 401) {
    at("key-panel").open = true;
    at("key").focus();
  }
  panel.scrollIntoView({ block: "nearest" });
}

// ---- downloading

const stem = () => state.image.name.replace(/\.[^.]+$/, "");

async function download(button, make, ending) {
  const name = `${stem()}.${ending}`;
  button.disabled = true;
  clearError();
  try {
    downloads.save(await make(), name);
  } catch (error) {
    showError(error);
  } finally {
    button.disabled = false;
  }
}

/** The server draws the outlines: refining again with the same options gives the same masks. */
async function polygons() {
  const { image, masks, options } = state;
  say("Asking for polygons …");
  const answer = await api.refine(image.file, masks.parts, { ...options, encoding: "polygons", report: "false" });
  say("Polygons are ready.");
  return downloads.recordsJson(answer.instances, masks.records);
}

function watchDownloads() {
  const { recordsJson, indexPng, masksZip, maskPng } = downloads;
  const size = () => [state.image.width, state.image.height];
  const makers = {
    "save-rle": [() => recordsJson(state.answer.instances, state.masks.records), () => "refined.json"],
    "save-polygons": [polygons, () => "polygons.json"],
    "save-index": [() => indexPng(state.answer.instances, ...size(), state.masks.values), () => "index.png"],
    "save-zip": [() => masksZip(state.answer.instances, ...size(), stem()), () => "masks.zip"],
    "save-one": [
      () => maskPng(state.answer.instances[view.selected], ...size()),
      () => `mask-${state.answer.instances[view.selected].index + 1}.png`,
    ],
  };
  for (const [id, [make, ending]] of Object.entries(makers)) {
    at(id).addEventListener("click", () => download(at(id), make, ending()));
  }
}

// ---- dropping

function watchDrops() {
  const target = (event) => event.target.closest?.(".drop");
  const mark = (event) => {
    for (const zone of document.querySelectorAll(".drop")) zone.classList.toggle("over", zone === target(event));
    at("stage").classList.toggle("over", Boolean(event.target.closest?.("#stage")));
  };
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    mark(event);
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || mark({ target: document.body }));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    mark({ target: document.body });
    const files = [...event.dataTransfer.files];
    if (files.length) place(files, target(event)?.id);
  });
}

/** Files that were dropped: on a field they are meant for it, elsewhere their kind tells. */
async function place(files, zone) {
  let image = null;
  if (zone === "image-drop") image = files[0];
  else if (zone !== "masks-drop") {
    const pictures = files.filter((file) => file.type.startsWith("image/"));
    image = pictures.find((file) => file.type !== "image/png") ?? (state.image ? null : pictures[0]) ?? null;
  }
  const masks = zone === "image-drop" ? [] : files.filter((file) => file !== image);
  if (image) await chooseImage(image);
  if (masks.length) await chooseMasks(masks).catch(showError);
}

// ---- starting

async function loadModels() {
  try {
    fillWeights(await api.models());
    clearError();
  } catch (error) {
    showError(error);
  }
}

function closeKeyPanel() {
  if (at("key-panel").contains(document.activeElement)) at("key-panel").querySelector("summary").focus();
  at("key-panel").open = false;
}

function creditLine(sample) {
  const line = document.createElement("li");
  line.append(`${sample.title}. `, credit(sample));
  return line;
}

function start() {
  listen(at("stage"), at("canvas"), view, pick);
  at("image-file").addEventListener("change", (event) => event.target.files[0] && chooseImage(event.target.files[0]));
  at("masks-file").addEventListener("change", (event) => {
    if (event.target.files.length) chooseMasks(event.target.files).catch(showError);
  });
  for (const id of ["image-file", "masks-file"]) {
    // So that the same file can be chosen again after it was changed on disk.
    at(id).addEventListener("click", (event) => (event.target.value = ""));
  }
  at("png-as").addEventListener("change", (event) => {
    setSource({ ...state.source, as: event.target.value }, state.source.name);
    preview();
  });
  at("paste-use").addEventListener("click", () => {
    setSource({ kind: "json", text: at("paste-text").value }, "pasted JSON");
    preview();
  });
  at("refine").addEventListener("click", refine);
  for (const radio of document.querySelectorAll("input[name=mode]")) radio.addEventListener("change", showMode);
  at("opacity").addEventListener("input", (event) => view.set({ opacity: Number(event.target.value) }));
  at("outlines").addEventListener("change", (event) => view.set({ outlines: event.target.checked }));
  at("split").addEventListener("input", setSplit);
  at("zoom-in").addEventListener("click", () => view.zoomBy(1.5));
  at("zoom-out").addEventListener("click", () => view.zoomBy(1 / 1.5));
  at("zoom-fit").addEventListener("click", () => view.fit());
  at("key").addEventListener("input", (event) => api.setKey(event.target.value));
  at("key").addEventListener("change", loadModels);
  document.addEventListener("pointerdown", (event) => {
    if (!at("key-panel").contains(event.target)) closeKeyPanel();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    if (at("key-panel").open) closeKeyPanel();
    else if (state.answer && view.selected !== null) select(null);
  });
  watchOptions();
  watchDownloads();
  watchDrops();
  setSplit();
  loadModels();
  loadSamples()
    .then((samples) => {
      at("samples").append(...samples.map((sample) => sampleButton(sample, chooseSample)));
      at("credits").append(...samples.map(creditLine));
    })
    .catch(showError);
}

start();
