"""<job-progress> in each of its states, without a server: what the tests of the element put on a page."""

from __future__ import annotations

from typing import Any

#: What happened to a job, by what the element then shows.
STORIES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "scheduled": [("scheduled", {"due": 4102444800000})],
    "ready": [("ready", {})],
    "running": [("running", {"attempt": 1}), ("progress", {"attempt": 1, "fraction": 0.4, "text": "Reading"})],
    "waiting": [
        ("running", {"attempt": 1}),
        ("retrying", {"attempt": 1, "failures": 1, "max_retries": 5, "due": 4102444800000, "error": "OSError: torn"}),
    ],
    "succeeded": [("running", {"attempt": 1}), ("succeeded", {"attempt": 1})],
    "dead": [("running", {"attempt": 1}), ("dead", {"attempt": 1, "reason": "gave up", "error": "OSError: torn"})],
    "cancelled": [("cancelled", {"reason": "by its owner"})],
    "expired": [("expired", {"reason": "nobody began it in time"})],
}

#: One element for each story, fed by a socket that only tells it.
SHOW_STATES = """async stories => {
    await import("/static/realtime/job-progress.js");
    const box = document.createElement("section");
    box.id = "states";
    document.querySelector("main").append(box);
    for (const [state, events] of Object.entries(stories)) {
        const element = document.createElement("job-progress");
        element.setAttribute("topic", "t");
        element.setAttribute("label", `How far ${state} is`);
        element.socket = Object.assign(new EventTarget(), {
            status: { state: "live" },
            serverTime: Date.now(),
            subscribe: (topic, { event }) => {
                queueMicrotask(() => events.forEach(([name, data]) => event({ job: "j", name, data })));
                return () => {};
            },
        });
        box.append(element);
    }
}"""
