// Crops of instances. They stand behind this script in the page, and may still be on their way when they are asked for.

import { pixelsOf } from "./runs.js";

const PATIENCE_MS = 40;

/** The crop of a row: its place in the photograph, its picture, and its masks as pixels; null where it has none. */
export async function cropOf(number) {
  const told = JSON.parse(await arrived(`crop-${number}`));
  const [width, height] = told.size;
  const photo = new Image();
  photo.src = `data:image/jpeg;base64,${told.photo}`;
  await photo.decode();
  const masks = {};
  for (const [name, counts] of Object.entries(told.masks)) masks[name] = pixelsOf(counts, width, height);
  masks.after ??= masks.before;
  return { at: told.at, width, height, photo, masks, fit: told.fit ?? null };
}

function arrived(id) {
  return new Promise((resolve, reject) => {
    const look = () => {
      const element = document.getElementById(id);
      const whole = document.readyState !== "loading";
      // What follows an element is there only when the element is complete.
      if (element && (whole || element.nextSibling)) resolve(element.textContent);
      else if (whole) reject(new Error(`the page holds no ${id}; it may have been cut short`));
      else setTimeout(look, PATIENCE_MS);
    };
    look();
  });
}
