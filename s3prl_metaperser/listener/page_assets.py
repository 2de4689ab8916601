"""The listening page's style sheet and its script, which adds keys and looks for news; the page works without it."""

STYLE = """
:root { color-scheme: light dark; --ink: #1d2127; --soft: #59616d; --ground: #fdfdfc; --raised: #f3f4f2;
  --rule: #d3d6d1; --accent: #9c3d00; --on-accent: #ffffff; --average: #7d8794; --you: #b8520c; --chosen: #fbe9dc; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e5; --soft: #a6adb7; --ground: #15181c; --raised: #1f2429;
  --rule: #3a424b; --accent: #ffab70; --on-accent: #1d1206; --average: #8b96a5; --you: #ff9d57; --chosen: #3b2818; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem clamp(1rem, 3vw, 2.5rem) 4rem; color: var(--ink);
  background: var(--ground); font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.2; margin: .25rem 0 .5rem; }
h2 { font-size: 1.15rem; line-height: 1.3; margin: 0 0 .75rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; }
p { margin: .4rem 0 .75rem; max-width: 42rem; }
a { color: var(--accent); }
.skip { position: absolute; left: -999rem; }
.skip:focus { left: 1rem; top: .5rem; background: var(--ground); padding: .5rem; z-index: 3; }
.quiet, .note { color: var(--soft); font-size: .875rem; }
progress { width: 100%; max-width: 24rem; height: .6rem; accent-color: var(--accent); display: block; }
main { display: grid; gap: 1.25rem; grid-template-columns: minmax(0, 1fr); margin-top: 1.25rem; align-items: start; }
@media (min-width: 60rem) { main { grid-template-columns: minmax(0, 26rem) minmax(0, 1fr); }
  .clip { position: sticky; top: 1rem; } }
section { background: var(--raised); border-radius: .75rem; padding: clamp(.9rem, 2.5vw, 1.4rem); }
audio { width: 100%; display: block; margin: .25rem 0 1rem; }
fieldset { border: 0; margin: 0; padding: 0; min-width: 0; }
legend { padding: 0; font-weight: 600; margin-bottom: .5rem; }
.ticks { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: .5rem; }
.ticks label { position: relative; display: flex; align-items: center; justify-content: center; min-height: 3.4rem;
  padding: 1rem .3rem .4rem; border: 1.5px solid var(--rule); border-radius: .6rem; background: var(--ground);
  cursor: pointer; text-align: center; font-size: .95rem; line-height: 1.2; user-select: none; hyphens: auto; }
.ticks input { position: absolute; opacity: 0; inset: 0; width: 100%; height: 100%; margin: 0; cursor: pointer; }
.ticks label:has(:checked) { border-color: var(--accent); background: var(--chosen); font-weight: 600; }
.ticks label:has(:checked)::after { content: "\\2713"; position: absolute; right: .45rem; top: .15rem;
  color: var(--accent); font-weight: 700; }
.ticks label:has(:focus-visible) { outline: 3px solid var(--accent); outline-offset: 2px; }
kbd { font: 600 .75rem/1 ui-monospace, SFMono-Regular, Menlo, monospace; color: var(--soft); }
.ticks kbd { position: absolute; left: .45rem; top: .35rem; }
.actions { display: flex; flex-wrap: wrap; gap: .6rem; align-items: center; margin: 1rem 0 .25rem; }
button, .button { font: inherit; font-weight: 600; min-height: 2.9rem; padding: .5rem 1.1rem; border-radius: .6rem;
  border: 1.5px solid var(--accent); background: var(--accent); color: var(--on-accent); cursor: pointer;
  text-decoration: none; display: inline-flex; align-items: center; gap: .6rem; }
button kbd { color: inherit; opacity: .8; }
button.plain, .button.plain { background: transparent; color: var(--accent); border-color: var(--rule); }
.actions > * { flex: 1 1 6rem; justify-content: center; }
.actions .main { flex-basis: 100%; }
a:focus-visible, button:focus-visible, summary:focus-visible, .scroll:focus-visible, audio:focus-visible {
  outline: 3px solid var(--accent); outline-offset: 2px; }
.problem { border-left: 4px solid var(--accent); padding: .2rem 0 .2rem .75rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); font-size: .875rem; padding-bottom: .5rem; }
th, td { padding: .34rem .5rem .34rem 0; text-align: left; border-top: 1px solid var(--rule); vertical-align: middle; }
thead th, thead td { border-top: 0; }
thead th { font-weight: 600; color: var(--soft); font-size: .8rem; vertical-align: bottom; }
tbody th { font-weight: 500; }
td.number, th.number { text-align: right; white-space: nowrap; }
td.bars { width: 46%; min-width: 6rem; }
td.bars svg { display: block; width: 100%; height: 1.5rem; }
.average { fill: var(--average); } .you { fill: var(--you); } .track { fill: none; stroke: var(--rule); }
.key { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: .2rem 0 .6rem; padding: 0; list-style: none;
  font-size: .875rem; color: var(--soft); }
.key svg { width: .9rem; height: .9rem; vertical-align: -.1rem; margin-right: .3rem; }
.mine { color: var(--accent); font-weight: 700; }
.clips { display: flex; flex-wrap: wrap; gap: .35rem; padding: 0; margin: .5rem 0; list-style: none; }
.clips a { display: inline-flex; min-width: 2.5rem; min-height: 2.5rem; align-items: center; justify-content: center;
  border: 1.5px solid var(--rule); border-radius: .5rem; text-decoration: none; font-size: .9rem; padding: 0 .4rem; }
.clips a.done { background: var(--chosen); border-color: var(--accent); font-weight: 600; }
.clips a[aria-current] { outline: 2px solid var(--ink); outline-offset: 1px; }
details { margin-top: 1.25rem; }
summary { cursor: pointer; color: var(--accent); padding: .35rem 0; }
footer { margin-top: 1.5rem; }
@media (max-width: 30rem) { td.bars { width: 34%; min-width: 4.5rem; } th, td { padding-right: .35rem; }
  .wide { display: none; } }
@media (hover: none) and (max-width: 60rem) { kbd, .keys { display: none; } .ticks label { padding-top: .4rem; } }
"""

SCRIPT = """
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
"""
