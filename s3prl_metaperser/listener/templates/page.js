"use strict";
(() => {
  const find = (selector) => document.querySelector(selector);
  const audio = find("audio"), form = find("#label"), save = find("#save"), said = find("#said");
  const choices = [...document.querySelectorAll(".choices input")];
  const number = find("#number"), slider = find("#slider"), on = find("#on");
  const token = document.body.dataset.token;
  const busyElement = (element) => element.closest("a, button, summary, audio");
  const typing = (element) => element.matches("input[type=text]");
  const byKeyboard = (element) => element.matches(".choices input:focus-visible");
  const say = (text) => { if (said) said.textContent = text; };
  const tell = (what) => fetch(`/${what}/${form.dataset.where}`, {
    method: "POST", body: new URLSearchParams({ token }), keepalive: true,
  }).catch(() => {});

  let play = null, replay = null;
  if (audio && form) {
    const button = find("#play"), words = find("#play span"), bar = find("#playing");
    let ended = true;  // the next play is from the beginning
    audio.controls = false;
    find(".player").hidden = bar.hidden = false;
    if (save.dataset.whole !== undefined) save.setAttribute("aria-disabled", "true");
    const shown = () => { words.textContent = audio.paused ? button.dataset.play : button.dataset.pause; };
    audio.addEventListener("play", () => { if (ended) tell("played"); ended = false; shown(); });
    audio.addEventListener("pause", shown);
    audio.addEventListener("timeupdate", () => { if (audio.duration) bar.value = audio.currentTime / audio.duration; });
    audio.addEventListener("ended", async () => {
      ended = true;
      bar.value = 1;
      shown();
      await tell("ended");
      const waited = save.getAttribute("aria-disabled");
      save.removeAttribute("aria-disabled");
      find("#heard").textContent = find("#heard").dataset.heard + " ✓";
      if (waited) say(form.dataset.now);
    });
    const start = () => audio.play().catch(() => {});
    play = () => audio.paused ? start() : audio.pause();
    replay = () => { audio.currentTime = 0; ended = true; if (audio.paused) start(); else { ended = false; tell("played"); } };
    button.addEventListener("click", play);
    find("#replay").addEventListener("click", replay);
    if (audio.dataset.autoplay) audio.play().catch(() => say(audio.dataset.autoplay));
  }

  if (slider) {
    const follow = () => {
      slider.classList.toggle("untouched", number.value === "");
      if (number.value !== "") slider.value = number.value;
    };
    slider.hidden = false;
    slider.addEventListener("input", () => { number.value = slider.value; follow(); });
    number.addEventListener("input", follow);
    follow();
  }

  const choose = (input) => {
    input.checked = input.type === "radio" || !input.checked;
    const word = input.type === "radio" ? "chosen" : input.checked ? "ticked" : "unticked";
    say(form.dataset[word].replace("%", input.parentElement.lastChild.textContent.trim()));
  };
  const press = (id) => { const element = find(id); if (element) element.click(); };

  document.addEventListener("keydown", (event) => {
    const target = event.target, key = event.key;
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || typing(target)) return;
    if (key === "Enter" && on && !busyElement(target)) on.click();
    else if (/^[1-9]$/.test(key) && choices[key - 1] && !event.repeat) choose(choices[key - 1]);
    else if (number && target !== number && /^[-.0-9]$/.test(key)) {
      number.value = "";
      number.focus();  // the key is typed into it
      return;
    } else if (key === " " && play && !busyElement(target) && !byKeyboard(target)) play();
    else if (key === "Enter" && form && !busyElement(target)) form.requestSubmit(save);
    else if (target === number || target === slider) return;
    else if ((key === "r" || key === "R") && replay) replay();
    else if (key === "ArrowLeft" && find("#back") && target.type !== "radio") press("#back");
    else if (key === "ArrowRight" && find("#skip") && target.type !== "radio") press("#skip");
    else if ((key === "b" || key === "B") && find("#break")) press("#break");
    else return;
    event.preventDefault();
  });

  if (form) form.addEventListener("submit", (event) => {
    if (event.submitter && event.submitter !== save) return;
    const given = choices.some((input) => input.checked) || (number && number.value !== "");
    const heard = save.getAttribute("aria-disabled") !== "true";
    if (given && heard) return;
    say(given ? form.dataset.unheard : form.dataset.missing);
    event.preventDefault();
  });

  const news = find("#news"), busy = find("#busy");
  if (!news) return;
  let version = news.dataset.version, misses = 0;
  const tellBusy = (text) => { if (busy) busy.textContent = text; };
  const look = async () => {
    try {
      const answer = await fetch("/status", { cache: "no-store" });
      const state = await answer.json();
      misses = 0;
      tellBusy(state.busy);
      if (state.version !== version && !(news.contains(document.activeElement) && typing(document.activeElement))) {
        const page = await fetch("/news" + news.dataset.query, { cache: "no-store" });
        news.innerHTML = await page.text();
        version = state.version;
      }
      setTimeout(look, state.busy ? 700 : 4000);
    } catch (error) {
      misses += 1;
      if (misses > 2) tellBusy(document.body.dataset.gone);
      setTimeout(look, 5000);
    }
  };
  setTimeout(look, 700);
})();
