"""How the HTML page looks, on a phone and on a desk, in light and in dark."""

STYLE = """\
:root { --ink: #1c2430; --soft: #5b6675; --line: #dfe4ea; --back: #f5f7f9; --card: #ffffff;
  --blue: #0069a8; --good: #0a7a52; --warn: #b45309; --bad: #b22222; --best: #eaf4fb; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaf0; --soft: #9aa6b5; --line: #2d3744; --back: #0f141b; --card: #171e27;
    --blue: #6cb8ec; --good: #4cc79a; --warn: #f0a94b; --bad: #ff8a80; --best: #1a2c3c; }
  figure svg { filter: invert(.88) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 70rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
article { margin: 0 0 4rem; scroll-margin-top: 1rem; }
p.name { margin: 0; color: var(--blue); font-weight: 600; letter-spacing: .02em; }
h1, h2.question { font-size: clamp(1.45rem, 1.1rem + 1.8vw, 2.2rem); line-height: 1.2;
  margin: .2rem 0 1rem; text-wrap: balance; }
h2, h3 { font-size: 1.2rem; margin: 0 0 .8rem; }
section, details { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 1.1rem 1.2rem; margin: 1.2rem 0; }
summary { cursor: pointer; font-weight: 600; font-size: 1.05rem; }
details[open] summary { margin-bottom: .8rem; }
p { margin: .6rem 0; }
p.verdict { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  border-left: 5px solid var(--blue); padding: .9rem 1.1rem; margin: 1rem 0; }
p.alert { border-left: 5px solid var(--warn); padding: .1rem 0 .1rem .9rem; color: var(--ink);
  overflow-wrap: anywhere; }
p.small { color: var(--soft); font-size: .87rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.2rem, 1fr)); gap: .7rem; }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: .7rem .9rem; display: flex; flex-direction: column; min-width: 0; }
.tiles b { font-size: 1.3rem; line-height: 1.25; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere; }
.tiles span { color: var(--soft); font-size: .85rem; overflow-wrap: anywhere; }
figure { margin: 1.2rem auto; background: var(--card); max-width: 34rem; }
article > figure { border: 1px solid var(--line); border-radius: 12px; padding: .8rem;
  max-width: none; }
article > figure svg { max-width: 34rem; margin: 0 auto; }
figure svg { display: block; width: 100%; height: auto; }
figure svg text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif
  !important; }
figcaption { color: var(--soft); font-size: .85rem; text-align: center; margin-top: .4rem; }
.scroll { overflow-x: auto; margin: .8rem -1.2rem; padding: 0 1.2rem; scrollbar-width: thin; }
table { border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .42rem .7rem; border-bottom: 1px solid var(--line); white-space: nowrap;
  text-align: right; background: var(--card); }
th { vertical-align: bottom; font-weight: 600; color: var(--soft); line-height: 1.3; }
.t { text-align: left; }
td.wide { white-space: normal; min-width: 14rem; }
th:first-child, td:first-child { position: sticky; left: -1.2rem; padding-left: 1.2rem;
  font-weight: 600; z-index: 1; }
tr.best td { background: var(--best); font-weight: 600; }
td.yes { color: var(--good); font-weight: 600; }
td.no, td.baseline { color: var(--soft); }
td.bad { color: var(--bad); font-weight: 600; }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .45rem 1.2rem;
  margin: 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
ol { padding-left: 1.3rem; margin: .3rem 0; }
li { margin: .5rem 0; }
nav { display: flex; flex-wrap: wrap; gap: .5rem; margin: 1rem 0; }
nav a { border: 1px solid var(--line); border-radius: 99px; padding: .25rem .8rem;
  background: var(--card); text-decoration: none; }
a { color: var(--blue); }
@media (max-width: 34rem) {
  main { padding: 1rem .8rem 3rem; }
  section, details { padding: .9rem; }
  .scroll { margin: .6rem -.9rem; padding: 0 .9rem; }
  th:first-child, td:first-child { left: -.9rem; padding-left: .9rem; }
  th, td { padding: .4rem .55rem; }
  section figure { margin: .6rem -.7rem; }
  .tiles { grid-template-columns: 1fr 1fr; }
  .tiles div:last-child:nth-child(odd) { grid-column: span 2; }
  article > figure { padding: .4rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .6rem; }
}
@media print { details { display: block; } body { background: none; } }
"""
