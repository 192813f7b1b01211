// What a browser with scripts does more than one without: nothing that a page needs.
"use strict";

// A box that chooses all boxes of its form.
for (const all of document.querySelectorAll("input[data-all]")) {
  const boxes = all.form.querySelectorAll('input[type="checkbox"][name="' + all.dataset.all + '"]');
  all.hidden = false;
  all.addEventListener("change", () => { for (const box of boxes) box.checked = all.checked; });
}

// A page that a browser has kept in memory is asked for again when somebody goes back to it: its visitor may have signed out.
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
