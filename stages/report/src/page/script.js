"use strict";
(() => {
  // Theme: the system's until a choice is made; the choice lasts as long as the browser lets it.
  const root = document.documentElement, button = document.getElementById("theme");
  const themes = ["system", "light", "dark"];
  const remembered = () => { try { return localStorage.getItem("retort-theme"); } catch { return null; } };
  const remember = (theme) => { try { localStorage.setItem("retort-theme", theme); } catch { /* a file may not */ } };
  let theme = themes.includes(remembered()) ? remembered() : "system";
  const apply = () => {
    if (theme === "system") delete root.dataset.theme; else root.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    remember(theme);
    apply();
  });
  apply();

  // Filters: a field with `data-key` asks of items, one with `data-part` of the parts of items.
  for (const form of document.querySelectorAll("form.filter")) {
    const items = [...document.getElementById(form.dataset.for).querySelectorAll(".item")];
    const texts = items.map((item) => item.textContent.toLowerCase());
    const words = form.querySelector("[data-key=text]"), count = form.querySelector(".count");
    const keys = [...form.querySelectorAll("select[data-key]")], parts = [...form.querySelectorAll("[data-part]")];
    const filter = () => {
      const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      items.forEach((item, place) => {
        let fits = wanted.every((word) => texts[place].includes(word))
          && keys.every((key) => !key.value || item.dataset[key.dataset.key] === key.value);
        if (parts.length) {
          let left = 0;
          for (const part of item.querySelectorAll(".part")) {
            part.hidden = !parts.every((key) => !key.value || part.dataset[key.dataset.part] === key.value);
            left += !part.hidden;
          }
          fits &&= left > 0;
        }
        item.hidden = !fits;
        shown += fits;
      });
      count.textContent = `${shown} of ${items.length} shown`;
    };
    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    filter();
  }

  // On paper nothing can be unfolded, so everything but the long lists is.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open]):not(.item):not(.long)")];
    for (const details of folded) details.open = true;
  });
  addEventListener("afterprint", () => { for (const details of folded) details.open = false; });
})();
