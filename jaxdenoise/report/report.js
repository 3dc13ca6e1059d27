// What pages of jaxdenoise can do beyond showing: sort tables, copy text, unfold for print.
// Nothing is loaded, and nothing leaves the page.
"use strict";

(() => {
  /** The value of a row's cell by which it is sorted. */
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value ?? cell.textContent.trim();
  };

  /** Let the heads of a table with `data-sort` sort its rows: "number" or "text". */
  const makeSortable = (table) => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (!head.dataset.sort) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const rising = head.getAttribute("aria-sort") !== "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", rising ? "ascending" : "descending");
        const compare =
          head.dataset.sort === "number"
            ? (a, b) => valueOf(a, column) - valueOf(b, column)
            : (a, b) => valueOf(a, column).localeCompare(valueOf(b, column), "en", { numeric: true });
        const rows = [...table.tBodies[0].rows].sort(compare);
        table.tBodies[0].append(...(rising ? rows : rows.reverse()));
      });
    });
  };

  /** Copy the text of an element; where the clipboard is closed to us, select it instead. */
  const copyText = async (button) => {
    const source = document.getElementById(button.dataset.copy);
    let said = "Copied";
    try {
      await navigator.clipboard.writeText(source.textContent.trim());
    } catch {
      getSelection().selectAllChildren(source);
      said = document.execCommand("copy") ? said : "Selected: press Ctrl+C";
    }
    button.textContent = said;
  };

  document.querySelectorAll("table.sortable").forEach(makeSortable);
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", () => copyText(button));
  }

  let unfolded = [];
  addEventListener("beforeprint", () => {
    unfolded = [...document.querySelectorAll("details:not([open])")];
    for (const one of unfolded) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of unfolded) one.open = false;
  });
})();
