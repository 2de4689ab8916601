"""The page's style sheet."""

STYLE = """
:root { --ink: #1d2127; --soft: #59616d; --ground: #fdfdfc; --raised: #f3f4f2; --rule: #d8dbd7; --accent: #9c3d00;
  --missing: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e3; --soft: #a3aab4; --ground: #15181c; --raised: #1f2429;
  --rule: #363d45; --accent: #ffab70; --missing: #e0b050; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body { margin: 0 auto; max-width: 68rem; padding: 1rem clamp(1rem, 4vw, 2.5rem) 4rem; color: var(--ink);
  background: var(--ground); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 1rem 0; }
h2 { font-size: 1.3rem; line-height: 1.25; margin: 3rem 0 .75rem; padding-top: .75rem;
  border-top: 2px solid var(--rule); }
h3 { font-size: 1.05rem; line-height: 1.3; margin: 2rem 0 .25rem; }
h4 { font-size: .95rem; margin: 1.25rem 0 .25rem; color: var(--soft); }
p { margin: .5rem 0; max-width: 46rem; }
a { color: var(--accent); }
nav { display: flex; flex-wrap: wrap; gap: .4rem 1.1rem; margin: 1.25rem 0; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 9.5rem), 1fr)); gap: .6rem 1.25rem;
  margin: 1rem 0; padding: 1rem; background: var(--raised); border-radius: .5rem; }
.facts .wide { grid-column: 1 / -1; }
.facts dt { font-size: .8rem; color: var(--soft); }
.facts dd { margin: 0; }
.caption, .note, figcaption { font-size: .875rem; color: var(--soft); }
.verdicts { margin: .25rem 0 1rem; padding-left: 1.2rem; max-width: 46rem; }
.verdicts li { margin: .3rem 0; }
.scroll { overflow-x: auto; margin: .5rem 0; border: 1px solid var(--rule); border-radius: .4rem;
  -webkit-overflow-scrolling: touch; }
.scroll:focus-visible, summary:focus-visible, a:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: .875rem; line-height: 1.35;
  font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .6rem; text-align: left; vertical-align: baseline; border-top: 1px solid var(--rule); }
thead th { border-top: 0; font-weight: 600; color: var(--soft); white-space: nowrap; background: var(--raised); }
thead .groups th { padding-bottom: 0; color: var(--ink); }
tbody th { font-weight: 500; position: sticky; left: 0; background: var(--ground); z-index: 1; min-width: 6.5rem;
  max-width: 14rem; }
thead th:first-child { position: sticky; left: 0; z-index: 2; }
.block th { position: static; max-width: none; font-weight: 600; background: var(--raised); }
.block span { position: sticky; left: .6rem; }
.number { white-space: nowrap; }
.number small { color: var(--soft); font-size: .8em; }
.missing { color: var(--missing); font-style: italic; }
.absent { color: var(--soft); }
details { margin: .5rem 0; }
summary { cursor: pointer; color: var(--accent); font-size: .9rem; padding: .3rem 0; }
figure { margin: 1.5rem 0; }
figure svg { display: block; width: 100%; max-width: 35rem; height: auto; margin: .5rem 0; }
figure svg * { stroke-linejoin: round; stroke-linecap: butt; }
@media print { nav { display: none; } body { max-width: none; } .scroll { overflow: visible; border: 0; }
  figure, article { break-inside: avoid; } }
"""
