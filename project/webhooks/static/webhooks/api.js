// The JSON API of the site, by the session's cookie.

export class ApiError extends Error {
  /** status: the HTTP status, 0 when the site did not answer at all. */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { headers: { Accept: "application/json" }, cache: "no-store", ...options });
  } catch {
    throw new ApiError(0, "The site does not answer.");
  }
  const body = await response.json().catch(() => null);
  if (response.redirected || response.status === 401) throw new ApiError(401, "You are signed out.");
  if (!response.ok || body === null) {
    throw new ApiError(response.status, body?.message ?? `The site answered with ${response.status}.`);
  }
  return body;
}

/** {deliveries: [...], more: bool}, newest first; `before` is the creation time of the last row at hand. */
export const getDeliveries = (before) =>
  call(before ? `/api/deliveries/?${new URLSearchParams({ before })}` : "/api/deliveries/");

/** One delivery with its attempts. */
export const getDelivery = (id) => call(`/api/deliveries/${encodeURIComponent(id)}/`);

/** What the site can do right now: worker, store, receivers, the server's clock. */
export const getStatus = () => call("/api/status/");

/** Kills a worker process (development only, staff only). */
export const killWorker = (worker) =>
  call("/api/workers/kill/", {
    method: "POST",
    headers: {
      Accept: "application/json",
      "Content-Type": "application/json",
      "X-CSRFToken": document.querySelector("#sign-out [name=csrfmiddlewaretoken]").value,
    },
    body: JSON.stringify({ worker }),
  });
