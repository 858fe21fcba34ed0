// The options of a request.

const at = (id) => document.getElementById(id);
const NAMES = ["nms", "passes", "guard", "caution", "reach"];

const read = (input) => (input.type === "checkbox" ? String(input.checked) : input.value);
const recommended = (input) => (input.type === "checkbox" ? String(input.defaultChecked) : input.defaultValue);

/** Options by name, as text. A field left empty is left to the server. */
export function readOptions() {
  const options = Object.fromEntries(NAMES.map((name) => [name, read(at(name))]));
  options.weights = at("weights").value;
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== ""));
}

export function watchOptions() {
  const update = () => {
    for (const name of ["nms", "caution"]) at(`${name}-value`).textContent = Number(at(name).value).toFixed(2);
    for (const name of ["caution", "reach"]) at(name).disabled = !at("guard").checked;
    const same = NAMES.every((name) => read(at(name)) === recommended(at(name)));
    at("options-state").textContent = same ? "as recommended" : "changed";
    at("weights-hint").textContent = at("weights").selectedOptions[0]?.dataset.about ?? "";
  };
  for (const name of [...NAMES, "weights"]) at(name).addEventListener("input", update);
  update();
}

/** Offer the server's models. */
export function fillWeights(models) {
  const choices = models.map((model) => {
    const about = [
      `${model.parameters.toLocaleString("en")} parameters`, `${model.precision} on ${model.runtime}`, model.license,
    ];
    const choice = new Option(model.name, model.name, model.default, model.default);
    choice.dataset.about = about.join(", ");
    return choice;
  });
  if (choices.length) at("weights").replaceChildren(...choices);
  at("weights").dispatchEvent(new Event("input"));
}
