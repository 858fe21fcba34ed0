// Image and masks: chosen, dropped or of a sample, and shown as they came.

import { showMode, view } from "./looking.js";
import { looksLikeIndex, readMasks, sameSize } from "./masks.js";
import { stop } from "./refining.js";
import { credit, sampleFile } from "./samples.js";
import { colourOf, makeSprite } from "./sprites.js";
import { state } from "./state.js";
import { at, clearError, plural, say, showError } from "./telling.js";

export async function chooseImage(file, sample = null) {
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

export async function chooseMasks(files) {
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

export async function chooseSample(sample) {
  try {
    const file = await sampleFile(sample);
    setSource({ kind: "json", text: JSON.stringify(sample.masks) }, `“${sample.title}”`);
    await chooseImage(file, sample);
  } catch (error) {
    showError(error);
  }
}

export function setSource(source, name) {
  state.source = source && { ...source, name };
  state.masks = null;
  at("masks-drop").classList.toggle("chosen", Boolean(source));
  at("masks-text").textContent = source ? name : "Drop COCO JSON, PNG masks or an index PNG";
  at("png-kind").hidden = source?.kind !== "png";
  at("png-as").querySelector("[value=index]").disabled = source?.kind === "png" && source.files.length > 1;
}

/** Read the masks for the image and show both as they came. */
export async function preview() {
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

export function watchDrops() {
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
