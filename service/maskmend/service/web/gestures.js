// Mouse, touch, pen and keys on the picture.

const STEP = 60; // px that an arrow key moves the picture
const KEY_ZOOM = 1.25;
const SLACK = 4; // px that a finger may slip in a click

/** onPick is called with a pixel [x, y] of the image when it is clicked. */
export function listen(stage, canvas, view, onPick) {
  const fingers = new Map();
  let slipped = 0;

  const place = (event) => {
    const frame = canvas.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  };
  const spread = () => {
    const [a, b] = [...fingers.values()];
    return { distance: Math.hypot(a[0] - b[0], a[1] - b[1]), x: (a[0] + b[0]) / 2, y: (a[1] + b[1]) / 2 };
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button > 1) return;
    canvas.setPointerCapture(event.pointerId);
    if (!fingers.size) slipped = 0;
    fingers.set(event.pointerId, place(event));
  });

  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const now = place(event);
    slipped += Math.hypot(now[0] - before[0], now[1] - before[1]);
    if (fingers.size === 2) {
      const from = spread();
      fingers.set(event.pointerId, now);
      const to = spread();
      view.panBy(to.x - from.x, to.y - from.y);
      if (from.distance > 0) view.zoomBy(to.distance / from.distance, to.x, to.y);
    } else {
      fingers.set(event.pointerId, now);
      if (fingers.size === 1) view.panBy(now[0] - before[0], now[1] - before[1]);
    }
  });

  const lift = (event) => {
    if (event.type === "pointerup" && fingers.size === 1 && fingers.has(event.pointerId) && slipped <= SLACK) {
      onPick(view.pixelAt(...place(event)));
    }
    if (fingers.size > 1) slipped = Infinity;
    fingers.delete(event.pointerId);
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);

  stage.addEventListener(
    "wheel",
    (event) => {
      if (!view.bitmap) return;
      event.preventDefault();
      // Lines and pages, as some mice send them, come to about as much as a notch of the others in pixels.
      const notch = event.deltaY * [1, 33, 400][event.deltaMode];
      view.zoomBy(Math.exp(-Math.max(-240, Math.min(240, notch)) / 480), ...place(event));
    },
    { passive: false },
  );

  stage.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = { ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP] };
    if (event.key === "+" || event.key === "=") view.zoomBy(KEY_ZOOM);
    else if (event.key === "-" || event.key === "_") view.zoomBy(1 / KEY_ZOOM);
    else if (event.key === "0") view.fit();
    // On the slider the arrows are the slider's.
    else if (event.target === canvas && moves[event.key]) view.panBy(...moves[event.key]);
    else return;
    event.preventDefault();
  });
}
