/** <button class="copy" data-copy="text">: copies it, and says so. */

export function listenToCopies() {
  document.addEventListener("click", async ({ target }) => {
    const button = target.closest("button[data-copy]");
    if (!button) return;
    const said = button.dataset.label ?? button.textContent;
    button.dataset.label = said;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed";
    }
    setTimeout(() => (button.textContent = said), 1500);
  });
}
