// One crop on the stage: photograph, masks, zoom, and the border between before and after.

import { AFTER, BEFORE, TRUTH, changesOf, css, fillOf, outlineOf } from "./layers.js";

const LARGEST = 64; // CSS px per px of the photograph
const DIM = "rgb(9 12 16 / 0.66)";

export class View {
  /** onDraw is called after each drawing. */
  constructor(canvas, onDraw) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.onDraw = onDraw;
    this.crop = null;
    this.settings = { mode: "compare", split: 0.5, fill: 0.3, outlines: true, truth: true };
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.whole = true;
    this.asked = false;
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  /** Show a crop of `cropOf`, whole; `farthest` is the px that its edge moved. Null clears the stage. */
  show(crop, farthest = 0) {
    this.crop = crop;
    this.layers = null;
    if (crop) {
      const { masks, width, height } = crop;
      const layer = (pixels, colour) => ({
        fill: fillOf(pixels, width, height, colour), outline: outlineOf(pixels, width, height), colour,
      });
      this.layers = {
        before: layer(masks.before, BEFORE),
        after: layer(masks.after, AFTER),
        truth: masks.truth ? { outline: outlineOf(masks.truth, width, height), colour: TRUTH } : null,
        changes: changesOf(masks.before, masks.after, width, height, (farthest * width) / crop.at[2]),
      };
      this.fit();
    } else this.draw();
  }

  set(values) {
    Object.assign(this.settings, values);
    this.draw();
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    if (this.whole) this.fit();
    else this.moveTo(this.scale, this.x, this.y);
  }

  get fitting() {
    const [, , width, height] = this.crop.at;
    return Math.min(LARGEST, this.canvas.clientWidth / width, this.canvas.clientHeight / height) || 1;
  }

  fit() {
    if (!this.crop) return;
    this.moveTo(this.fitting, 0, 0);
    this.whole = true;
  }

  /** Zoom by a factor about a point of the canvas, its middle unless told otherwise. */
  zoomBy(factor, { x, y } = { x: this.canvas.clientWidth / 2, y: this.canvas.clientHeight / 2 }) {
    if (!this.crop) return;
    const scale = Math.min(LARGEST, Math.max(Math.min(1, this.fitting), this.scale * factor));
    const real = scale / this.scale;
    this.moveTo(scale, x - (x - this.x) * real, y - (y - this.y) * real);
  }

  panBy(dx, dy) {
    if (this.crop) this.moveTo(this.scale, this.x + dx, this.y + dy);
  }

  moveTo(scale, x, y) {
    const [, , width, height] = this.crop.at;
    const held = (offset, size, room) => (size <= room ? (room - size) / 2 : Math.min(0, Math.max(room - size, offset)));
    this.scale = scale;
    this.x = held(x, width * scale, this.canvas.clientWidth);
    this.y = held(y, height * scale, this.canvas.clientHeight);
    this.whole = false;
    this.draw();
  }

  /** Draw before the next frame, once however often asked. */
  draw() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.paint();
      this.onDraw();
    });
  }

  paint() {
    const { context, canvas, crop, layers, settings } = this;
    context.reset();
    if (!crop) return;
    const ratio = canvas.width / Math.max(1, canvas.clientWidth);
    const scale = this.scale * ratio;
    context.translate(Math.round(this.x * ratio), Math.round(this.y * ratio));
    context.scale(scale, scale);
    // Pixels are shown as such where they are large enough to be told apart.
    this.picture(crop.photo, (scale * crop.at[2]) / crop.photo.width < 3);
    if (settings.mode === "changes") {
      context.fillStyle = DIM;
      context.fillRect(0, 0, crop.at[2], crop.at[3]);
      this.picture(layers.changes, false);
      if (settings.outlines) this.stroke(layers.before.outline, "rgb(255 255 255 / 0.6)", 1);
    } else {
      const border = settings.split * canvas.width;
      this.within(0, border, () => this.mask(layers.before));
      this.within(border, canvas.width, () => this.mask(layers.after));
    }
    if (settings.truth && layers.truth) {
      this.stroke(layers.truth.outline, "rgb(0 0 0 / 0.6)", 2.4);
      this.stroke(layers.truth.outline, css(TRUTH), 1.2);
    }
  }

  mask({ fill, outline, colour }) {
    const { context, settings } = this;
    context.globalAlpha = settings.fill;
    this.picture(fill, false);
    context.globalAlpha = 1;
    if (!settings.outlines) return;
    // Dark below bright, so that an outline shows on any ground.
    this.stroke(outline, "rgb(0 0 0 / 0.6)", 3.2);
    this.stroke(outline, css(colour), 1.6);
  }

  picture(picture, smooth) {
    const [, , width, height] = this.crop.at;
    this.context.imageSmoothingEnabled = smooth;
    this.context.imageSmoothingQuality = "high";
    this.context.drawImage(picture, 0, 0, width, height);
  }

  stroke(path, style, width) {
    const { context, crop } = this;
    const unit = crop.at[2] / crop.width;
    context.save();
    // Masks may be smaller in the page than in the photograph.
    context.scale(unit, crop.at[3] / crop.height);
    context.strokeStyle = style;
    context.lineWidth = width / this.scale / unit;
    context.lineCap = "square";
    context.stroke(path);
    context.restore();
  }

  /** Draw between two columns of the canvas only. */
  within(from, to, paint) {
    const { context, canvas } = this;
    const place = context.getTransform();
    context.save();
    context.resetTransform();
    context.beginPath();
    context.rect(from, 0, to - from, canvas.height);
    context.clip();
    context.setTransform(place);
    paint();
    context.restore();
  }
}
