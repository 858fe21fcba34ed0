// The picture and the table beside it: how instances are shown, and which one.

import { area, contains } from "./rle.js";
import { state } from "./state.js";
import { InstanceTable } from "./table.js";
import { at } from "./telling.js";
import { View } from "./view.js";

export const view = new View(at("canvas"), showZoom);
export const table = new InstanceTable(at("table"), select);

export function showMode() {
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

export function setSplit() {
  const share = Number(at("split").value);
  at("split").ariaValueText = `${share}% before, ${100 - share}% after`;
  view.set({ split: share / 100 });
}

/** Show an instance; null shows all alike again. */
export function select(index) {
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
export function pick([x, y]) {
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
