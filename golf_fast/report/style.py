"""The style sheet of a run's page; its plots use the custom properties."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f7f7f4; --card: #ffffff; --ink: #1d2129; --muted: #5f6672; --grid: #dcdfe4;
  --first: #2563a8; --second: #c2710c; --third: #1b7f4b; --fourth: #7a4fa3; --fifth: #2d8d97; --sixth: #a8325e;
  --good: #1b7f4b; --bad: #b3261e; --heat: #e8731a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14161a; --card: #1d2026; --ink: #e8eaee; --muted: #a0a7b4; --grid: #363b45;
    --first: #7db4f0; --second: #f0a95a; --third: #5fcf95; --fourth: #c3a0ee; --fifth: #6fd0da; --sixth: #f08fb0;
    --good: #5fcf95; --bad: #ff8a80; --heat: #b3480a;
  }
}
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 24px; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 16px; margin: 32px 0 8px; }
header p { margin: 4px 0 0; color: var(--muted); }
header .warning {
  color: var(--bad); border: 1px solid; border-radius: 8px; padding: 8px 12px; margin-top: 12px; font-weight: 600;
}
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 12px; margin-top: 20px; }
.tile {
  background: var(--card); border: 1px solid var(--grid); border-radius: 10px; padding: 12px 14px; display: grid;
}
.tile span { color: var(--muted); font-size: 13px; }
.tile strong { font-size: 24px; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile.good strong { color: var(--good); }
.tile.bad strong { color: var(--bad); }
.plots {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); gap: 12px;
  margin-top: 32px; align-items: start;
}
figure { background: var(--card); border: 1px solid var(--grid); border-radius: 10px; margin: 0; padding: 12px 14px; }
figcaption { font-weight: 600; margin-bottom: 4px; }
figure { min-width: 0; }
figure svg { display: block; height: auto; }
figure svg text { font-family: inherit !important; }
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--grid); border-radius: 10px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 6px 14px; white-space: pre-line; }
th { color: var(--muted); font-weight: 500; vertical-align: bottom; }
tr + tr td, tbody td { border-top: 1px solid var(--grid); }
td:first-child { white-space: nowrap; }
.number { text-align: right; }
td.number { white-space: nowrap; }
details { margin-top: 12px; }
summary { cursor: pointer; color: var(--muted); margin-bottom: 8px; }
code { overflow-wrap: anywhere; }
:focus-visible { outline: 2px solid var(--first); outline-offset: 2px; }
.tokens {
  background: var(--card); border: 1px solid var(--grid); border-radius: 10px; padding: 12px 14px; margin: 0;
  white-space: pre-wrap; overflow-wrap: anywhere; font: 14px/1.9 ui-monospace, monospace;
}
.tokens span { border-radius: 3px; padding: 2px 0; }
.tokens span:hover, .tokens span:focus { outline: 2px solid var(--ink); outline-offset: 0; }
.tokens span:hover::after, .tokens span:focus::after {
  content: attr(data-tip); position: fixed; z-index: 1; left: 12px; right: 12px; bottom: 12px; margin: 0 auto;
  width: fit-content; max-width: calc(100% - 56px); padding: 8px 14px; border-radius: 8px;
  background: var(--ink); color: var(--page); font: 14px/1.4 system-ui, sans-serif; white-space: pre-wrap;
}
.tokens:hover span:focus:not(:hover)::after { display: none; }
.scale { display: flex; flex-wrap: wrap; gap: 4px; font-size: 13px; margin: 8px 0 12px; }
.scale span { padding: 1px 8px; border-radius: 4px; }
.l1 { background: color-mix(in srgb, var(--heat) 9%, transparent); }
.l2 { background: color-mix(in srgb, var(--heat) 18%, transparent); }
.l3 { background: color-mix(in srgb, var(--heat) 29%, transparent); }
.l4 { background: color-mix(in srgb, var(--heat) 42%, transparent); }
.l5 { background: color-mix(in srgb, var(--heat) 56%, transparent); }
.l6 { background: color-mix(in srgb, var(--heat) 72%, transparent); }
.l7 { background: color-mix(in srgb, var(--heat) 90%, transparent); }
.skip { position: absolute; left: -9999px; }
.skip:focus { position: static; }
@media (max-width: 640px) {
  main { padding: 20px 12px 48px; }
  figure { padding: 10px 8px; }
  th, td { padding: 6px 8px; }
  td:first-child { white-space: normal; min-width: 112px; overflow-wrap: anywhere; }
}
@media print { .tokens span::after { display: none; } }
"""
