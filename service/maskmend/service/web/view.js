// The picture: photograph, masks on it, zoom and the border between before and after.

const LARGEST = 64; // CSS pixels per image pixel
const DIM = "rgba(9, 12, 16, 0.68)";
const FAINT = 0.22; // of instances beside the selected one

export class View {
  /** onChange is called after each drawing. */
  constructor(canvas, onChange) {
    this.canvas = canvas;
    this.onChange = onChange;
    this.context = canvas.getContext("2d");
    this.bitmap = null;
    this.sprites = [];
    this.refined = false;
    this.mode = "compare";
    this.split = 0.5;
    this.opacity = 0.45;
    this.outlines = true;
    this.selected = null;
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.fitted = true;
    this.waiting = false;
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  /** Show another photograph, whole. */
  setImage(bitmap) {
    this.bitmap?.close();
    this.bitmap = bitmap;
    this.setInstances([], false);
    this.fit();
  }

  /** Show sprites, with null for instances that cannot be drawn; `farthest` is the px that the brightest change moved. */
  setInstances(sprites, refined, farthest = 4) {
    this.sprites = sprites;
    this.refined = refined;
    this.selected = null;
    this.farthest = farthest;
    this.draw();
  }

  set(values) {
    Object.assign(this, values);
    this.draw();
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    if (this.fitted) this.fit();
    else this.moveTo(this.scale, this.x, this.y);
  }

  get fitScale() {
    const { clientWidth, clientHeight } = this.canvas;
    return Math.min(clientWidth / this.bitmap.width, clientHeight / this.bitmap.height) || 1;
  }

  fit() {
    if (!this.bitmap) return this.draw();
    this.moveTo(this.fitScale, 0, 0);
    this.fitted = true;
  }

  /** Zoom by a factor about a point of the canvas, its middle unless told otherwise. */
  zoomBy(factor, cx = this.canvas.clientWidth / 2, cy = this.canvas.clientHeight / 2) {
    if (!this.bitmap) return;
    const least = Math.min(1, this.fitScale);
    const scale = Math.min(Math.max(LARGEST, this.fitScale), Math.max(least, this.scale * factor));
    const real = scale / this.scale;
    this.moveTo(scale, cx - (cx - this.x) * real, cy - (cy - this.y) * real);
  }

  panBy(dx, dy) {
    if (this.bitmap) this.moveTo(this.scale, this.x + dx, this.y + dy);
  }

  /** Bring a box of the image, [x, y, width, height], before the eye. */
  zoomTo([x, y, width, height]) {
    const { clientWidth, clientHeight } = this.canvas;
    const room = Math.min(clientWidth / Math.max(1, width), clientHeight / Math.max(1, height));
    const scale = Math.max(Math.min(1, this.fitScale), Math.min(16, 0.7 * room));
    this.moveTo(
      scale,
      clientWidth / 2 - (x + width / 2) * scale,
      clientHeight / 2 - (y + height / 2) * scale,
    );
  }

  /** The pixel of the image under a point of the canvas. */
  pixelAt(cx, cy) {
    return [Math.floor((cx - this.x) / this.scale), Math.floor((cy - this.y) / this.scale)];
  }

  moveTo(scale, x, y) {
    const { clientWidth, clientHeight } = this.canvas;
    const held = (offset, image, room) =>
      image <= room ? (room - image) / 2 : Math.min(0, Math.max(room - image, offset));
    this.scale = scale;
    this.x = held(x, this.bitmap.width * scale, clientWidth);
    this.y = held(y, this.bitmap.height * scale, clientHeight);
    this.fitted = false;
    this.draw();
  }

  /** Draw before the next frame, once however often asked. */
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.drawNow();
      this.onChange();
    });
  }

  drawNow() {
    const { context, canvas, bitmap } = this;
    const ratio = canvas.width / Math.max(1, canvas.clientWidth);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.globalAlpha = 1;
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!bitmap) return;
    const scale = this.scale * ratio;
    // Whole device pixels keep enlarged image pixels evenly sized.
    context.setTransform(scale, 0, 0, scale, Math.round(this.x * ratio), Math.round(this.y * ratio));
    context.imageSmoothingEnabled = scale < 1;
    context.imageSmoothingQuality = "high";
    this.paint(bitmap, 0, 0);
    if (this.mode === "changes" && this.refined) this.drawChanges();
    else if (!this.refined) this.drawMasks("coarse");
    else {
      const border = Math.round(this.split * canvas.width);
      this.within(0, border, () => this.drawMasks("coarse"));
      this.within(border, canvas.width, () => this.drawMasks("refined"));
    }
  }

  /** Draw the part of a picture that is in view: enlarged as a whole it would exceed what browsers can draw. */
  paint(picture, x, y) {
    const { clientWidth, clientHeight } = this.canvas;
    const [left, top] = this.pixelAt(0, 0);
    const [right, bottom] = this.pixelAt(clientWidth, clientHeight);
    const x0 = Math.max(x, left - 1);
    const y0 = Math.max(y, top - 1);
    const width = Math.min(x + picture.width, right + 2) - x0;
    const height = Math.min(y + picture.height, bottom + 2) - y0;
    if (width > 0 && height > 0) {
      this.context.drawImage(picture, x0 - x, y0 - y, width, height, x0, y0, width, height);
    }
  }

  /** Draw between two columns of the canvas only. */
  within(from, to, paint) {
    const { context, canvas } = this;
    if (to <= from) return;
    const place = context.getTransform();
    context.save();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.beginPath();
    context.rect(from, 0, to - from, canvas.height);
    context.clip();
    context.setTransform(place);
    paint();
    context.restore();
  }

  *shown() {
    for (const [index, sprite] of this.sprites.entries()) {
      if (sprite) yield [sprite, this.selected === null || this.selected === index ? 1 : FAINT];
    }
  }

  drawMasks(which) {
    const { context } = this;
    for (const [sprite, weight] of this.shown()) {
      context.globalAlpha = this.opacity * weight;
      this.paint(sprite[which].fill, sprite.x, sprite.y);
    }
    if (!this.outlines) return;
    for (const [sprite, weight] of this.shown()) {
      context.globalAlpha = weight;
      // Dark below bright, so that an outline shows on any background.
      this.stroke(sprite[which].outline, "rgba(0, 0, 0, 0.6)", 3.2);
      this.stroke(sprite[which].outline, sprite.bright, 1.6);
    }
  }

  drawChanges() {
    const { context, bitmap } = this;
    context.fillStyle = DIM;
    context.fillRect(0, 0, bitmap.width, bitmap.height);
    for (const [sprite, weight] of this.shown()) {
      context.globalAlpha = weight;
      if (this.outlines) this.stroke(sprite.coarse.outline, "rgba(255, 255, 255, 0.55)", 1);
      const heat = sprite.heat(this.farthest);
      if (heat) this.paint(heat, sprite.x, sprite.y);
    }
  }

  stroke(path, colour, width) {
    const { context } = this;
    context.strokeStyle = colour;
    context.lineWidth = width / this.scale;
    context.lineCap = "square";
    context.stroke(path);
  }
}
