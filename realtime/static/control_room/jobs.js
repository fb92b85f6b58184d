/** Ticking jobs in a list: all of a page at once, and how many are ticked. Without it they are ticked one by one. */

const boxes = () => [...document.querySelectorAll('input[name="job"]')];

function count() {
  const ticked = boxes().filter((box) => box.checked).length;
  for (const place of document.querySelectorAll("[data-picked]")) place.textContent = ticked || "";
  const all = document.querySelector("[data-all]");
  if (!all) return;
  all.hidden = false;
  all.checked = ticked > 0 && ticked === boxes().length;
  all.indeterminate = ticked > 0 && !all.checked;
}

document.addEventListener("change", ({ target }) => {
  if (target.matches("[data-all]")) for (const box of boxes()) box.checked = target.checked;
  if (target.matches('[data-all], input[name="job"]')) count();
});
document.addEventListener("patched", count);
count();
