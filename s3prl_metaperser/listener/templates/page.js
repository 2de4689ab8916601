"use strict";
(() => {
  const audio = document.querySelector("audio"), form = document.querySelector("#label");
  const choices = [...document.querySelectorAll(".choices input")], said = document.querySelector("#said");
  const number = document.querySelector("#number"), slider = document.querySelector("#slider");
  const busyElement = (element) => element.closest("a, button, summary, audio");
  const byKeyboard = (element) => element.matches(".choices input:focus-visible");
  const say = (text) => { if (said) said.textContent = text; };

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
    say(input.value + (input.type === "radio" ? " chosen" : input.checked ? " ticked" : " not ticked"));
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const target = event.target;
    if (/^[1-9]$/.test(event.key) && choices[event.key - 1] && !event.repeat) {
      choose(choices[event.key - 1]);
      event.preventDefault();
    } else if (number && target !== number && /^[-.0-9]$/.test(event.key)) {
      number.value = "";
      number.focus();  // the key is typed into it
    } else if (event.key === " " && audio && !busyElement(target) && !byKeyboard(target)) {
      if (audio.ended || audio.paused) audio.play().catch(() => {}); else audio.pause();
      event.preventDefault();
    } else if (event.key === "Enter" && form && !busyElement(target)) {
      form.requestSubmit(form.querySelector("button.main"));
      event.preventDefault();
    }
  });

  if (form) form.addEventListener("submit", (event) => {
    if (choices.some((input) => input.checked) || (number && number.value !== "")) return;
    say(form.dataset.missing);
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
