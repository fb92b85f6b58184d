// Buttons that must not act twice.

const HOLD_MS = 500; // longer than the second click of a double click takes, also when the answer is quicker

/**
 * Runs `work` with these buttons disabled; while it runs, or has just run, a further call does nothing.
 * The focus, which disabling takes away, comes back to the button that had it (or, if that one stays disabled, goes
 * to `otherwise`), unless it was put somewhere else meanwhile.
 */
export function oneAtATime(buttons, work, otherwise = null) {
  let busy = false;
  return async (...args) => {
    if (busy) return;
    busy = true;
    const held = new Promise((resolve) => setTimeout(resolve, HOLD_MS));
    let focused = buttons.includes(document.activeElement) ? document.activeElement : null;
    const moved = () => (focused = null);
    document.addEventListener("focusin", moved);
    for (const button of buttons) button.dataset.busy = button.disabled = true;
    try {
      await work(...args);
    } finally {
      await held;
      busy = false;
      document.removeEventListener("focusin", moved);
      for (const button of buttons) {
        delete button.dataset.busy;
        button.disabled = button.dataset.off === "true";
      }
      if (focused) (focused.disabled ? otherwise : focused)?.focus();
    }
  };
}

/** Switches a button on or off by what it can do; a button under way stays disabled until it is through. */
export function enable(button, on) {
  button.dataset.off = String(!on);
  if (!button.dataset.busy) button.disabled = !on;
}
