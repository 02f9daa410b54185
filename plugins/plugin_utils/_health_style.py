# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the pages of health look: on a desk, on a phone, in the dark and on paper.

The colours of texts have a contrast of 4.5 to 1 or more.
"""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark;
  --bg: #fff; --fg: #1b1f24; --muted: #57606a; --line: #d0d7de; --card: #f6f8fa; --track: #d8dee4; --link: #0b5cad;
  --critical: #b42318; --warning: #8a5a00; --info: #0b5cad; --ok: #1a7f37; --fill: #2f6fb3;
  --c1: #2563a8; --c2: #4d7c0f; --c3: #c2410c; --c4: #7e22ce; --c5: #0e7490; --c6: #a16207; }
@media screen and (prefers-color-scheme: dark) { :root {
  --bg: #0f1419; --fg: #e6e9ed; --muted: #a3adb8; --line: #333c47; --card: #181f27; --track: #333c47; --link: #79b8ff;
  --fill: #5fa3e6; --c1: #5fa3e6; --c2: #8fbf4d; --c3: #f08a5d; --c4: #c18af0; --c5: #4fc1d9; --c6: #e0b040; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--fg);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  overflow-wrap: anywhere; -webkit-text-size-adjust: 100%; }
.skip { position: absolute; left: -99em; } .skip:focus { left: 1rem; top: .5rem; background: var(--bg);
  padding: .5rem; }
a { color: var(--link); }
header, main, footer { max-width: 68rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 1.25rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0; } h2 { font-size: 1.25rem; margin: 2.25rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.25rem 0 .35rem; }
.about, .muted, .notes, footer { color: var(--muted); } .about { margin: .25rem 0 1rem; }
.verdict { display: flex; flex-wrap: wrap; gap: .4rem .75rem; align-items: center; font-size: 1.15rem;
  font-weight: 600;
  padding: .75rem 1rem; background: var(--card); border-left: .5rem solid var(--ok); border-radius: .4rem; margin: 0;
  }
.verdict.critical { border-color: var(--critical); } .verdict.warning { border-color: var(--warning); }
.verdict.info { border-color: var(--info); }
.badge { display: inline-block; font-size: .8rem; line-height: 1.3; font-weight: 700; letter-spacing: .02em;
  padding: .2rem .6rem;
  border-radius: 1rem; color: #fff; white-space: nowrap; }
.badge.critical { background: var(--critical); } .badge.warning { background: var(--warning); }
.badge.info { background: var(--info); } .badge.ok { background: var(--ok); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .6rem; margin: 1rem 0 0; }
.tiles div { background: var(--card); border-radius: .4rem; padding: .6rem .8rem; }
.tiles div { border-left: .3rem solid transparent; } .tiles .critical { border-color: var(--critical); }
.tiles .warning { border-color: var(--warning); }
.fleet header, .fleet main, .fleet footer { max-width: 84rem; }
.data .worst { min-width: 16rem; } .data .host { min-width: 7rem; } .data .short { white-space: nowrap; }
.tiles dt { color: var(--muted); font-size: .85rem; } .tiles dd { margin: 0; font-size: 1.15rem; font-weight: 600; }
.tiles dd small { display: block; font-size: .85rem; font-weight: 400; color: var(--muted); }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1rem; list-style: none; padding: 0; margin: 1rem 0 0; }
nav li a { display: inline-block; padding: .25rem 0; }
.findings { list-style: none; padding: 0; margin: 0; display: grid; gap: .6rem; }
.finding { background: var(--card); border-left: .35rem solid var(--ok); border-radius: .4rem; padding: .7rem 1rem;
  break-inside: avoid; }
.finding.critical { border-color: var(--critical); } .finding.warning { border-color: var(--warning); }
.finding.info { border-color: var(--info); }
.finding p { margin: 0; } .finding .where { color: var(--muted); font-size: .9rem; margin-left: .5rem; }
.finding .what { font-weight: 600; margin-top: .3rem; } .finding.info .what { font-weight: 400; }
.finding .do { margin-top: .3rem; }
code { display: inline-block; font: .875rem/1.45 ui-monospace, "DejaVu Sans Mono", monospace; background: var(--bg);
  border: 1px solid var(--line); border-radius: .3rem; padding: .1rem .45rem; margin-top: .25rem; max-width: 100%;
  white-space: pre-wrap; }
.notes { font-size: .9rem; padding-left: 1.2rem; margin: .5rem 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem 2rem;
  align-items: start; }
.chart { margin: .75rem 0 0; min-width: 0; break-inside: avoid; }
  .chart figcaption, .bars caption { font-weight: 600; text-align: left; margin-bottom: .3rem; }
.chart figcaption .muted { font-weight: 400; }
svg { display: block; } .swatch { display: inline-block; vertical-align: -1px; }
.track { fill: var(--track); } .fill { fill: var(--fill); } .fill.critical { fill: var(--critical); }
  .fill.warning { fill: #b98000; }
.c1 { fill: var(--c1); } .c2 { fill: var(--c2); } .c3 { fill: var(--c3); } .c4 { fill: var(--c4); }
  .c5 { fill: var(--c5); } .c6 { fill: var(--c6); }
.stack { border-radius: .3rem; overflow: hidden; }
.legend { list-style: none; padding: 0; margin: .4rem 0 0; display: flex; flex-wrap: wrap; gap: .1rem 1.2rem;
  font-size: .9rem; }
.trend { width: 100%; height: 90px; } .line { fill: none; stroke: var(--fill); stroke-width: 2;
  vector-effect: non-scaling-stroke; }
.area { fill: var(--fill); opacity: .15; } .axis { stroke: var(--line); vector-effect: non-scaling-stroke; }
.bars { width: 100%; border-collapse: collapse; font-size: .9rem; }
.bars tbody tr { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 0 1rem; padding: .15rem 0; }
.bars caption { font-size: 1rem; } .bars th { font-weight: 400; text-align: left; padding: 0; }
  .bars td { padding: 0; } .bars .told { font-weight: 600;
  text-align: right; }
.bars .drawn { grid-column: 1 / -1; }
dl.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); gap: 0 2rem;
  margin: 0; font-size: .9rem; }
dl.facts div { display: flex; justify-content: space-between; gap: 1rem; padding: .25rem 0;
  border-bottom: 1px solid var(--line); }
dl.facts dt { color: var(--muted); } dl.facts dd { margin: 0; text-align: right;
  max-width: 75%; overflow-wrap: break-word; }
.scroll { overflow-x: auto; max-width: 100%; } .scroll:focus-visible { outline: 2px solid var(--link); }
.data { border-collapse: collapse; width: 100%; font-size: .9rem; }
.data th, .data td { text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0;
  border-bottom: 1px solid var(--line);
  max-width: 26rem; min-width: 3.5rem; }
.data th { font-weight: 600; } .data thead th { white-space: nowrap; border-bottom-width: 2px; }
  .data tbody th { font-weight: 500; }
.data .n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.data.wide td { min-width: 6rem; } .data.wide .name { min-width: 9rem; }
footer { font-size: .9rem; margin-top: 2.5rem; padding-bottom: 2rem; }
@media (max-width: 40rem) { body { font-size: 15px; } h1 { font-size: 1.35rem; }
  .finding .where { display: block; margin: .25rem 0 0; } }
@media (max-width: 40rem) { .tiles { grid-template-columns: repeat(auto-fill, minmax(6.6rem, 1fr)); gap: .4rem; }
  .tiles div { padding: .4rem .55rem; } .tiles dd { font-size: 1rem; } .tiles dt, .tiles dd small { font-size: .8rem;
  } }
@media print { :root { font-size: 10.5px; } body { font-size: 1rem; } nav, .skip, .back { display: none; }
  header, main, footer { max-width: none; padding: 0; } .fleet header, .fleet main, .fleet footer { max-width: none; }
  .scroll { overflow: visible; } .data th, .data td, .data .worst, .data .host, .data.wide .name { min-width: 0; }
  .data thead th { white-space: normal; } h2, h3 { break-after: avoid; } tr { break-inside: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""
