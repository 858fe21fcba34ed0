// The buttons that save what came back.

import * as api from "./api.js";
import * as downloads from "./downloads.js";
import { view } from "./looking.js";
import { state } from "./state.js";
import { at, clearError, say, showError } from "./telling.js";

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

export function watchDownloads() {
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
