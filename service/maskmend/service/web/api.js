// Talks to the server. The key lives in this module's memory and nowhere else.

let key = "";

export function setKey(value) {
  key = value.trim();
}

/** What went wrong: status, code, message, field, requestId, retryAfter (seconds or null). */
export class ApiError extends Error {
  constructor(status, { code = "", message = "", field = "", request_id = "" }, retryAfter) {
    super(message || `The server answered with status ${status}.`);
    Object.assign(this, { status, code: code || `http_${status}`, field, requestId: request_id, retryAfter });
  }
}

async function ask(path, options = {}) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { code: "unreachable", message: "The server cannot be reached." }, null);
  }
  const body = await response.json().catch(() => null);
  if (!response.ok) {
    const seconds = Number.parseInt(response.headers.get("Retry-After"), 10);
    throw new ApiError(response.status, body ?? {}, Number.isNaN(seconds) ? null : seconds);
  }
  if (body === null) throw new ApiError(response.status, { code: "bad_answer", message: "The answer is not JSON." }, null);
  return body;
}

export async function models() {
  return (await ask("/v1/models")).models;
}

/** image: File; parts: [name, text or File]; options: text by name. */
export async function refine(image, parts, options, signal) {
  const form = new FormData();
  form.append("image", image, image.name);
  for (const [name, value] of parts) form.append(name, value);
  for (const [name, value] of Object.entries(options)) form.append(name, value);
  return ask("/v1/refine", { method: "POST", body: form, signal });
}
