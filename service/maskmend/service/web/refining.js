// A request on its way, and its answer.

import * as api from "./api.js";
import { showMode, table, view } from "./looking.js";
import { sameSize } from "./masks.js";
import { readOptions } from "./options.js";
import { readRle } from "./rle.js";
import { colourOf, makeSprite } from "./sprites.js";
import { state } from "./state.js";
import { at, clearError, list, plural, say, showError } from "./telling.js";

export async function refine() {
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
export function stop() {
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
