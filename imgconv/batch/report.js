"use strict";
(() => {
  const table = document.getElementById("guests");
  const guests = [...table.tBodies];
  const chips = [...document.querySelectorAll(".chip")];
  const search = document.getElementById("search");
  let state = "";

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const guest of guests) {
      const fits = (!state || guest.dataset.state === state)
        && words.every((word) => guest.dataset.text.includes(word));
      guest.hidden = !fits;
      count += fits;
    }
    document.getElementById("shown").textContent = count === guests.length ? "" : `${count} shown`;
    document.getElementById("none").hidden = count > 0;
  };

  for (const chip of chips) {
    chip.addEventListener("click", () => {
      state = chip.dataset.state;
      for (const other of chips) other.setAttribute("aria-pressed", String(other === chip));
      filter();
    });
  }
  search.addEventListener("input", filter);

  const toggle = (guest, open) => {
    guest.querySelector(".more").hidden = !open;
    guest.querySelector(".open").setAttribute("aria-expanded", String(open));
  };
  for (const guest of guests) {
    guest.querySelector(".row").addEventListener("click", () => {
      if (!String(getSelection())) toggle(guest, guest.querySelector(".more").hidden);
    });
  }

  for (const button of table.querySelectorAll("[data-sort]")) {
    button.addEventListener("click", () => {
      const key = button.dataset.sort;
      const head = button.closest("th");
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const compare = key === "seconds" || key === "attempts"
        ? (a, b) => a.dataset[key] - b.dataset[key]
        : (a, b) => a.dataset[key].localeCompare(b.dataset[key], undefined, { numeric: true });
      guests.sort((a, b) => (down ? compare(b, a) : compare(a, b)));
      table.append(...guests);
    });
  }

  // On paper everything is open; afterwards it is as it was.
  let before = [];
  addEventListener("beforeprint", () => {
    before = guests.map((guest) => !guest.querySelector(".more").hidden);
    guests.forEach((guest) => toggle(guest, true));
    for (const each of document.querySelectorAll("details")) each.dataset.open = each.open ? "1" : "";
    for (const each of document.querySelectorAll("details")) each.open = true;
  });
  addEventListener("afterprint", () => {
    guests.forEach((guest, index) => toggle(guest, before[index]));
    for (const each of document.querySelectorAll("details")) each.open = Boolean(each.dataset.open);
  });
})();
