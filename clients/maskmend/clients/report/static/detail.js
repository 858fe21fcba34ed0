// One instance, large: the dialog with slider, zoom, overlays and figures.

import { cropOf } from "./crops.js";
import { listen } from "./gestures.js";
import { View } from "./view.js";

const by = (id) => document.getElementById(id);

export class Detail {
  /** told gives [name, value] pairs of a row; measures are names of the columns of `fit`; onStep and onClose are told the row. */
  constructor(sides, measures, told, onStep, onClose) {
    this.sides = sides;
    this.measures = measures;
    this.told = told;
    this.row = null;
    this.dialog = by("detail");
    this.view = new View(by("canvas"), () => this.drawn());
    listen(by("stage"), by("canvas"), this.view);
    [by("tag-before").textContent, by("tag-after").textContent] = sides;
    for (const input of document.querySelectorAll("input[name=mode]")) {
      input.addEventListener("change", () => this.setMode(input.value));
    }
    by("fill").addEventListener("input", (event) => this.view.set({ fill: Number(event.target.value) }));
    by("outlines").addEventListener("change", (event) => this.view.set({ outlines: event.target.checked }));
    by("truth").addEventListener("change", (event) => this.view.set({ truth: event.target.checked }));
    by("split").addEventListener("input", () => this.setSplit());
    by("zoom-in").addEventListener("click", () => this.view.zoomBy(1.6));
    by("zoom-out").addEventListener("click", () => this.view.zoomBy(1 / 1.6));
    by("fit").addEventListener("click", () => this.view.fit());
    by("earlier").addEventListener("click", () => onStep(this.row, -1));
    by("later").addEventListener("click", () => onStep(this.row, 1));
    by("close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("close", () => onClose(this.row));
    this.dialog.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !["n", "p"].includes(event.key)) return;
      onStep(this.row, event.key === "n" ? 1 : -1);
    });
    this.setSplit();
  }

  /** Show a row; `place` and `count` say where it stands in the gallery. */
  async open(row, title, place, count) {
    this.row = row;
    by("detail-title").textContent = title;
    for (const [id, end] of [["earlier", place === 0], ["later", place === count - 1]]) {
      // A button that is switched off would lose the focus to nowhere.
      if (end && document.activeElement === by(id)) by("close").focus();
      by(id).disabled = end;
    }
    by("figures").replaceChildren(...this.told(row).flatMap(([name, value]) => {
      const [term, text] = [document.createElement("dt"), document.createElement("dd")];
      [term.textContent, text.textContent] = [name, value];
      return [term, text];
    }));
    by("wait").hidden = false;
    by("wait").textContent = "Loading";
    by("fit-table").hidden = true;
    this.view.show(null);
    if (!this.dialog.open) this.dialog.showModal();
    try {
      const crop = await cropOf(row.place);
      // Another one may have been asked for meanwhile.
      if (this.row !== row) return;
      by("wait").hidden = true;
      by("truth-field").hidden = !crop.masks.truth;
      by("legend-range").textContent = row.changed ? `dark 1 px, bright ${row.farthest.toFixed(1)} px from the edge` : "nothing changed";
      this.showFit(crop.fit);
      this.view.show(crop, row.farthest);
    } catch (error) {
      if (this.row === row) by("wait").textContent = error.message;
    }
  }

  showFit(fit) {
    const table = by("fit-table");
    table.hidden = !fit;
    if (!fit) return;
    const cell = (row, text, scope) => {
      const made = document.createElement(scope ? "th" : "td");
      if (scope) made.scope = scope;
      made.textContent = text;
      row.append(made);
    };
    table.tHead.replaceChildren();
    table.tBodies[0].replaceChildren();
    const head = table.tHead.insertRow();
    for (const text of ["", ...this.sides, "change"]) cell(head, text, "col");
    this.measures.forEach((name, n) => {
      const row = table.tBodies[0].insertRow();
      const [before, after] = [fit[0][n], fit[1][n]];
      const change = after - before;
      cell(row, name, "row");
      for (const value of [before, after]) cell(row, value.toFixed(4));
      cell(row, `${change > 0 ? "+" : change < 0 ? "−" : ""}${Math.abs(change).toFixed(4)}`);
      row.lastElementChild.className = change > 0 ? "better" : change < 0 ? "worse" : "";
    });
  }

  setMode(mode) {
    const comparing = mode === "compare";
    for (const id of ["split", "tag-before", "tag-after"]) by(id).hidden = !comparing;
    by("legend").hidden = comparing;
    this.view.set({ mode });
  }

  setSplit() {
    const share = Number(by("split").value);
    by("split").ariaValueText = `${share}% ${this.sides[0]}, ${100 - share}% ${this.sides[1]}`;
    this.view.set({ split: share / 100 });
  }

  drawn() {
    by("zoom").textContent = `${Math.round(100 * this.view.scale)}%`;
    by("canvas").classList.toggle("zoomed", !this.view.whole);
  }
}
