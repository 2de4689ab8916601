"use strict";
(() => {
  const audio = document.querySelector("audio"), form = document.querySelector("#label");
  const boxes = [...document.querySelectorAll('.ticks input')], said = document.querySelector("#said");
  const busyElement = (element) => element.closest("a, button, summary, audio");
  const byKeyboard = (element) => element.matches("input:focus-visible");

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const target = event.target;
    if (/^[1-9]$/.test(event.key) && boxes[event.key - 1] && !event.repeat) {
      const box = boxes[event.key - 1];
      box.checked = !box.checked;
      if (said) said.textContent = box.value + (box.checked ? " ticked" : " not ticked");
      event.preventDefault();
    } else if (event.key === " " && audio && !busyElement(target) && !byKeyboard(target)) {
      if (audio.ended || audio.paused) audio.play().catch(() => {}); else audio.pause();
      event.preventDefault();
    } else if (event.key === "Enter" && form && !busyElement(target)) {
      form.requestSubmit(form.querySelector("button.main"));
      event.preventDefault();
    }
  });

  if (form) form.addEventListener("submit", (event) => {
    if (boxes.some((box) => box.checked)) return;
    if (said) said.textContent = "Tick at least one, or skip the clip.";
    event.preventDefault();
  });

  const news = document.querySelector("#news");
  if (!news) return;
  let version = news.dataset.version, misses = 0;
  const look = async () => {
    try {
      const answer = await fetch("/status", { cache: "no-store" });
      const state = await answer.json();
      misses = 0;
      document.querySelector("#busy").textContent = state.busy;
      if (state.version !== version) {
        const page = await fetch("/news" + news.dataset.query, { cache: "no-store" });
        news.innerHTML = await page.text();
        version = state.version;
      }
      setTimeout(look, state.busy ? 700 : 4000);
    } catch (error) {
      misses += 1;
      if (misses > 2) document.querySelector("#busy").textContent = "The program behind this page has ended.";
      setTimeout(look, 5000);
    }
  };
  setTimeout(look, 700);
})();
