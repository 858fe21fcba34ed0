// What was chosen, and what came back.

export const state = {
  image: null, // {file, name, width, height}
  source: null, // see masks.js
  sample: null,
  masks: null, // what readMasks made of the source
  answer: null,
  refined: [], // masks of the answer
  options: {}, // that the answer was made with
  busy: null, // AbortController of the request on its way
  turn: 0, // counts choices, so that a slow one does not overwrite a later one
};
