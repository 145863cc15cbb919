// The table of architectures: a row stays if it holds every word that was typed; a click on "refused" shows why.
(() => {
  const field = document.getElementById("table-filter");
  const table = document.getElementById("filtered");
  if (!field || !table) return;
  const rows = [...table.tBodies[0].rows].map((row) => [row, row.textContent.toLowerCase()]);
  const count = document.getElementById("table-count");
  const show = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const [row, text] of rows) {
      const fits = words.every((word) => text.includes(word));
      row.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown} of ${rows.length}`;
  };
  table.addEventListener("click", ({ target }) => {
    if (!target.title) return;
    const open = target.querySelector("small");
    if (open) return open.remove();
    const reason = document.createElement("small");
    reason.textContent = target.title;
    target.append(reason);
  });
  field.addEventListener("input", show);
  show();
})();
