// The table of instances: sortable, and a way to each instance in the picture.

import { colourOf } from "./sprites.js";

/** [key, title, cell text]; the key is also what the column is sorted by. */
const COLUMNS = [
  ["index", "#", (i) => String(i.index + 1)],
  ["confidence", "Confidence", (i) => i.confidence.toFixed(2)],
  ["score", "Score", (i) => i.score.toFixed(2)],
  ["max_displacement_px", "Shift px", (i) => (i.max_displacement_px ?? 0).toFixed(1)],
  ["changed_pixels", "Changed px", (i) => i.changed_pixels.toLocaleString("en")],
  ["abstained", "Outcome", outcome],
];

export function outcome(instance) {
  if (instance.abstained) return `Kept: ${instance.abstained}`;
  return instance.changed_pixels ? "Refined" : "Already right";
}

export class InstanceTable {
  /** onSelect is called with the index of the instance that is chosen. */
  constructor(table, onSelect) {
    this.head = table.tHead.rows[0];
    this.body = table.tBodies[0];
    this.onSelect = onSelect;
    this.instances = [];
    this.sorted = { key: "index", down: false };
    for (const [key, title] of COLUMNS) this.head.append(this.heading(key, title));
    this.body.addEventListener("click", (event) => this.chooseRow(event.target.closest("tr")));
    this.body.addEventListener("keydown", (event) => this.step(event));
  }

  show(instances) {
    this.instances = instances;
    this.fill();
  }

  heading(key, title) {
    const cell = document.createElement("th");
    const button = document.createElement("button");
    cell.scope = "col";
    cell.role = "columnheader";
    cell.dataset.key = key;
    button.type = "button";
    button.textContent = title;
    button.addEventListener("click", () => {
      this.sorted = { key, down: this.sorted.key === key && !this.sorted.down };
      this.fill();
    });
    cell.append(button);
    return cell;
  }

  fill() {
    const { key, down } = this.sorted;
    const value = (instance) => (key === "abstained" ? outcome(instance) : instance[key] ?? 0);
    const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    const rows = [...this.instances].sort(
      (a, b) => (down ? -1 : 1) * order(value(a), value(b)) || a.index - b.index,
    );
    for (const cell of this.head.cells) {
      cell.ariaSort = cell.dataset.key === key ? (down ? "descending" : "ascending") : "none";
    }
    this.body.replaceChildren(...rows.map((instance) => this.row(instance)));
    this.mark(this.selected ?? null);
  }

  row(instance) {
    const row = document.createElement("tr");
    // Roles said aloud, since the narrow layout takes the table's display from its parts.
    row.role = "row";
    row.dataset.index = instance.index;
    row.dataset.outcome = instance.abstained ? "kept" : instance.changed_pixels ? "refined" : "right";
    for (const [key, , text] of COLUMNS) {
      const cell = document.createElement(key === "index" ? "th" : "td");
      cell.role = key === "index" ? "rowheader" : "cell";
      if (key === "index") {
        const button = document.createElement("button");
        const swatch = document.createElement("span");
        cell.scope = "row";
        button.type = "button";
        button.ariaLabel = `Instance ${instance.index + 1}: show in the picture`;
        swatch.className = "swatch";
        swatch.style.backgroundColor = `rgb(${colourOf(instance.index).join(" ")})`;
        button.append(swatch, text(instance));
        cell.append(button);
      } else {
        cell.textContent = text(instance);
        cell.dataset.key = key;
      }
      row.append(cell);
    }
    return row;
  }

  /** Show which instance is selected; null for none. */
  mark(index) {
    this.selected = index;
    const rows = [...this.body.rows];
    const current = rows.find((row) => Number(row.dataset.index) === index);
    for (const row of rows) {
      row.classList.toggle("selected", row === current);
      const button = row.querySelector("button");
      button.ariaCurrent = row === current ? "true" : null;
      // One stop for the Tab key; the arrow keys go from row to row.
      button.tabIndex = row === (current ?? rows[0]) ? 0 : -1;
    }
    return current;
  }

  chooseRow(row) {
    if (row) this.onSelect(Number(row.dataset.index));
  }

  step(event) {
    const rows = [...this.body.rows];
    const here = rows.indexOf(event.target.closest("tr"));
    const next = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const row = rows[Math.max(0, Math.min(rows.length - 1, next))];
    for (const other of rows) other.querySelector("button").tabIndex = other === row ? 0 : -1;
    row.querySelector("button").focus();
  }
}
