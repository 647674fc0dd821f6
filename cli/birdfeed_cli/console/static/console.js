// Live refresh: asks for the page again and puts its parts marked data-live into this one. Nothing else is asked for.
"use strict";
(() => {
  const every = Number(document.body.dataset.refresh) * 1000;
  const pause = document.getElementById("pause");
  const late = document.getElementById("late");
  let paused = false, since = Date.now();

  const say = (text) => { if (late && late.textContent !== text) late.textContent = text; };

  function put(found) {
    for (const part of document.querySelectorAll("[data-live]")) {
      const fresh = found.querySelector(`[data-live="${part.dataset.live}"]`);
      // What somebody has the keyboard on stays until they leave it.
      if (!fresh || part.contains(document.activeElement) || part.innerHTML === fresh.innerHTML) continue;
      const scrolled = [...part.querySelectorAll(".wide, .plot")].map((one) => one.scrollLeft);
      part.className = fresh.className;
      part.replaceChildren(...fresh.childNodes);
      part.querySelectorAll(".wide, .plot").forEach((one, nth) => { if (scrolled[nth]) one.scrollLeft = scrolled[nth]; });
    }
    document.title = found.title;
  }

  async function look() {
    try {
      const answer = await fetch(location.href, { redirect: "error", signal: AbortSignal.timeout(15000) });
      const found = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (found.querySelector("[data-live]") && found.querySelector("h1")) {
        const [here, there] = [document, found].map((page) => page.querySelector("[data-live]").dataset.live);
        // A page of another kind: Redis has gone, or has come back.
        if (here !== there) { location.reload(); return; }
        put(found);
        if (!found.body.dataset.refresh) { stop(); return; }
        since = Date.now();
        say("");
      }
    } catch {
      say(`(no answer for ${Math.round((Date.now() - since) / 1000)} s)`);
    }
  }

  let timer = 0;
  const stop = () => { clearInterval(timer); if (pause) pause.hidden = true; };
  if (every) {
    timer = setInterval(() => { if (!paused && !document.hidden) look(); }, every);
    if (pause) {
      pause.hidden = false;
      pause.addEventListener("click", () => {
        paused = !paused;
        pause.setAttribute("aria-pressed", String(paused));
        pause.textContent = paused ? "Go on" : "Pause";
        if (!paused) look();
      });
    }
  }

  const all = document.getElementById("all");
  if (all) {
    all.addEventListener("change", () => {
      for (const box of document.querySelectorAll('input[name="letter"]')) box.checked = all.checked;
    });
  }
})();
