// Elements of the page by their id, and what it says: a line, facts, errors.

export const at = (id) => document.getElementById(id);
export const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

export function say(text) {
  at("status").textContent = text;
}

export function clearError() {
  at("error").hidden = true;
}

export function showError(error) {
  const panel = at("error");
  const message = document.createElement("p");
  message.textContent = error.message;
  const rows = [["code", error.code], ["field", error.field], ["request", error.requestId]].filter(([, value]) => value);
  if (error.retryAfter != null) rows.push(["try again in", `${error.retryAfter} s`]);
  const details = document.createElement("dl");
  list(details, rows);
  panel.replaceChildren(message, ...(rows.length ? [details] : []));
  panel.hidden = false;
  if (error.status === 401) {
    at("key-panel").open = true;
    at("key").focus();
  }
  panel.scrollIntoView({ block: "nearest" });
}

export function list(target, entries) {
  target.replaceChildren(
    ...entries.flatMap(([name, value]) => {
      const [term, text] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = name;
      text.textContent = value;
      return [term, text];
    }),
  );
}
