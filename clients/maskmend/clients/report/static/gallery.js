// The gallery: a page of cards at a time, each drawn when it comes into view.

import { cropOf } from "./crops.js";
import { AFTER, BEFORE, TRUTH, css, outlineOf } from "./layers.js";

export const ON_A_PAGE = 60;

export class Gallery {
  /** texts gives {name, told, outcome: [text, class]} of a row; onOpen is called with the row that is chosen. */
  constructor(list, texts, onOpen) {
    this.list = list;
    this.texts = texts;
    this.onOpen = onOpen;
    this.rows = [];
    this.page = 0;
    this.seen = new IntersectionObserver((entries) => this.drawSeen(entries), { rootMargin: "400px" });
    list.addEventListener("keydown", (event) => this.step(event));
  }

  get pages() {
    return Math.max(1, Math.ceil(this.rows.length / ON_A_PAGE));
  }

  show(rows, page = 0) {
    this.rows = rows;
    this.page = Math.max(0, Math.min(this.pages - 1, page));
    this.seen.disconnect();
    const start = this.page * ON_A_PAGE;
    this.list.replaceChildren(...rows.slice(start, start + ON_A_PAGE).map((row) => this.card(row)));
  }

  /** Turn to the page of a row and give its card the focus. */
  focus(row) {
    const place = this.rows.indexOf(row);
    if (place < 0) return false;
    const page = Math.floor(place / ON_A_PAGE);
    if (page !== this.page) this.show(this.rows, page);
    this.list.children[place - page * ON_A_PAGE].firstElementChild.focus();
    return true;
  }

  card(row) {
    const item = document.getElementById("card").content.cloneNode(true).firstElementChild;
    const button = item.firstElementChild;
    const { name, told, outcome } = this.texts(row);
    for (const [part, text] of [["name", name], ["told", told], ["outcome", outcome[0]]]) {
      button.querySelector(`.${part}`).textContent = text;
    }
    if (outcome[1]) button.querySelector(".outcome").classList.add(outcome[1]);
    button.row = row;
    button.addEventListener("click", () => this.onOpen(row));
    this.seen.observe(button);
    return item;
  }

  drawSeen(entries) {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      this.seen.unobserve(target);
      drawCard(target.querySelector("canvas"), target.row).catch((error) => {
        target.classList.add("failed");
        target.querySelector(".told").textContent = error.message;
      });
    }
  }

  /** Arrow keys go from card to card, as they lie in rows. */
  step(event) {
    const cards = [...this.list.querySelectorAll("button")];
    const here = cards.indexOf(event.target);
    if (here < 0) return;
    const top = cards[0].getBoundingClientRect().top;
    const across = Math.max(1, cards.filter((card) => card.getBoundingClientRect().top === top).length);
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across }[event.key];
    if (!by) return;
    event.preventDefault();
    cards[here + by]?.focus();
  }
}

async function drawCard(canvas, row) {
  const crop = await cropOf(row.place);
  const ratio = window.devicePixelRatio || 1;
  const [wide, high] = [canvas.clientWidth, canvas.clientHeight];
  if (!wide) return;
  [canvas.width, canvas.height] = [wide * ratio, high * ratio];
  const [, , width, height] = crop.at;
  // Small objects are enlarged, but not beyond what is left to see.
  const scale = Math.min(wide / width, high / height, 6);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.translate((wide - width * scale) / 2, (high - height * scale) / 2);
  context.imageSmoothingQuality = "high";
  context.drawImage(crop.photo, 0, 0, width * scale, height * scale);
  const [unit, tall] = [(width * scale) / crop.width, (height * scale) / crop.height];
  context.scale(unit, tall);
  context.lineCap = "square";
  const { before, after, truth } = crop.masks;
  for (const [pixels, colour, thick] of [[truth, TRUTH, 1], [before, BEFORE, 1.4], [after, AFTER, 1.4]]) {
    if (!pixels || (pixels === before && colour === AFTER)) continue;
    context.strokeStyle = css(colour);
    context.lineWidth = thick / unit;
    context.stroke(outlineOf(pixels, crop.width, crop.height));
  }
  canvas.classList.add("drawn");
}
