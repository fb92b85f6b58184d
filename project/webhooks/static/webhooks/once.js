// Buttons that must not act twice.

const HOLD_MS = 500; // longer than the second click of a double click takes, also when the answer is quicker

/** Runs `work` with these buttons disabled; while it runs, or has just run, a further call does nothing. */
export function oneAtATime(buttons, work) {
  let busy = false;
  return async (...args) => {
    if (busy) return;
    busy = true;
    const focused = document.activeElement;
    const held = new Promise((resolve) => setTimeout(resolve, HOLD_MS));
    for (const button of buttons) button.dataset.busy = button.disabled = true;
    try {
      await work(...args);
    } finally {
      await held;
      busy = false;
      for (const button of buttons) {
        delete button.dataset.busy;
        button.disabled = button.dataset.off === "true";
      }
      const lost = document.activeElement === document.body || document.activeElement === null;
      if (lost && buttons.includes(focused) && !focused.disabled) focused.focus(); // disabling took the focus away
    }
  };
}

/** Switches a button on or off by what it can do; a button under way stays disabled until it is through. */
export function enable(button, on) {
  button.dataset.off = String(!on);
  if (!button.dataset.busy) button.disabled = !on;
}
