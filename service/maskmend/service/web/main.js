// The page: starts its parts and connects them.

import * as api from "./api.js";
import { chooseImage, chooseMasks, chooseSample, preview, setSource, watchDrops } from "./choosing.js";
import { listen } from "./gestures.js";
import { pick, select, setSplit, showMode, view } from "./looking.js";
import { fillWeights, watchOptions } from "./options.js";
import { refine } from "./refining.js";
import { credit, loadSamples, sampleButton } from "./samples.js";
import { watchDownloads } from "./saving.js";
import { state } from "./state.js";
import { at, clearError, showError } from "./telling.js";

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
