// Mouse, touch, pen and keys on the stage.

const STEP = 60; // CSS px that an arrow key moves the crop
const KEY_ZOOM = 1.25;

export function listen(stage, canvas, view) {
  const fingers = new Map();
  const place = (event) => {
    const frame = canvas.getBoundingClientRect();
    return { x: event.clientX - frame.left, y: event.clientY - frame.top };
  };
  // Where the fingers are on average, and how far apart.
  const grip = () => {
    const held = [...fingers.values()];
    const x = held.reduce((sum, finger) => sum + finger.x, 0) / held.length;
    const y = held.reduce((sum, finger) => sum + finger.y, 0) / held.length;
    return { x, y, apart: held.length > 1 ? Math.hypot(held[0].x - held[1].x, held[0].y - held[1].y) : 0 };
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button > 1 || fingers.size === 2) return;
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, place(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    const from = grip();
    fingers.set(event.pointerId, place(event));
    const to = grip();
    view.panBy(to.x - from.x, to.y - from.y);
    if (from.apart > 0 && to.apart > 0) view.zoomBy(to.apart / from.apart, to);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
  }

  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    // Some mice send lines or pages instead of pixels.
    const pixels = event.deltaY * [1, 33, 400][event.deltaMode];
    view.zoomBy(Math.exp(-Math.max(-240, Math.min(240, pixels)) / 480), place(event));
  }, { passive: false });

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
