// Photographs to try the service with.

const FOLDER = "/static/samples/";

export async function loadSamples() {
  const response = await fetch(`${FOLDER}samples.json`);
  if (!response.ok) throw new Error("The samples are missing on this server.");
  return response.json();
}

/** A button with a preview. */
export function sampleButton(sample, onChoose) {
  const button = document.createElement("button");
  const picture = document.createElement("img");
  const title = document.createElement("span");
  button.type = "button";
  button.className = "sample";
  picture.src = FOLDER + sample.preview;
  picture.alt = "";
  title.textContent = sample.title;
  button.append(picture, title);
  button.addEventListener("click", () => onChoose(sample));
  return button;
}

/** The photograph as a file, as if a person had chosen it. */
export async function sampleFile(sample) {
  const response = await fetch(FOLDER + sample.image);
  if (!response.ok) throw new Error("The sample is missing on this server.");
  return new File([await response.blob()], sample.image, { type: "image/jpeg" });
}

/** Who made the photograph, as its licence asks, with links. */
export function credit(sample) {
  const line = document.createDocumentFragment();
  const { photograph, photograph_licence, masks, masks_licence } = sample.attribution;
  line.append("Photograph: ", link(photograph), ", ", link(photograph_licence), ". Masks made from annotations by ");
  line.append(link(masks), ", ", link(masks_licence), ".");
  return line;
}

function link({ text, url }) {
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.textContent = text;
  anchor.target = "_blank";
  anchor.rel = "noopener noreferrer";
  return anchor;
}
