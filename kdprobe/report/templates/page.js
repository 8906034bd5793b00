"use strict";
(() => {
  const root = document.documentElement;

  function themeSwitch() {
    const button = document.getElementById("theme");
    const system = matchMedia("(prefers-color-scheme: dark)");
    const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
    const show = () => {
      button.textContent = dark() ? "Light" : "Dark";
      button.setAttribute("aria-label", `Switch to ${dark() ? "light" : "dark"} colours`);
      document.dispatchEvent(new Event("themechange"));
    };
    button.hidden = false;
    button.addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      show();
    });
    system.addEventListener("change", show);
    show();
  }

  function followSections() {
    const links = new Map([...document.querySelectorAll(".contents a")].map((link) => [link.getAttribute("href").slice(1), link]));
    const mark = () => {
      const past = [...links.keys()].filter((id) => document.getElementById(id).getBoundingClientRect().top < 140);
      const atEnd = scrollY > 0 && innerHeight + scrollY >= root.scrollHeight - 2;
      const here = atEnd ? [...links.keys()].at(-1) : past.at(-1) || links.keys().next().value;
      for (const [id, link] of links) {
        if (id === here) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
    };
    addEventListener("scroll", mark, { passive: true });
    mark();
  }

  function named(hash) {
    try {
      return decodeURIComponent(hash);
    } catch {
      return hash; // someone else's percent sign
    }
  }

  function openForAnchor() {
    const open = () => {
      const target = document.getElementById(named(location.hash.slice(1)));
      for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    };
    addEventListener("hashchange", open);
    open();
  }

  function onPaper() {
    let before = null;
    addEventListener("beforeprint", () => {
      const folds = [...document.querySelectorAll("details:not([open])")];
      before = { folds, theme: root.dataset.theme };
      for (const fold of folds) fold.open = true;
      root.dataset.theme = "light";
      document.dispatchEvent(new Event("themechange"));
    });
    addEventListener("afterprint", () => {
      if (!before) return;
      for (const fold of before.folds) fold.open = false;
      if (before.theme) root.dataset.theme = before.theme;
      else delete root.dataset.theme;
      before = null;
      document.dispatchEvent(new Event("themechange"));
    });
  }

  themeSwitch();
  followSections();
  openForAnchor();
  onPaper();
})();
