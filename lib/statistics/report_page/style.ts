/** Rules of a router report. Plots share their columns, so that steps are below each other. */
export const pageStyle = `:root { --blank: #fff; }
@media (prefers-color-scheme: dark) { :root { --blank: #5a5f68; } }
h2 { font-size: 1.15rem; margin-top: 2.5rem; } h3 { font-size: 1rem; margin: 1.75rem 0 .4rem; }
dd, td, output, #pointed { font-variant-numeric: tabular-nums; }
a { color: var(--accent); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; }
th, td { text-align: right; padding: .2rem .4rem; border-bottom: 1px solid var(--line); }
th { font-weight: 600; vertical-align: bottom; }
td:first-child, td:nth-child(2), #layers tr:first-child th:nth-child(-n + 2) { text-align: left; }
#layers td:not(:nth-child(2)) { white-space: nowrap; }
.group { text-align: center; }
#layers [aria-current="true"] { background: color-mix(in srgb, var(--accent) 18%, transparent); }
.strip, #heat, .blank { background: var(--blank); }
.strip { display: block; width: 6rem; height: 1.1rem; border: 1px solid var(--line); }
canvas { image-rendering: pixelated; }
.controls { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; align-items: center;
  padding: .6rem 0; background: var(--paper); border-bottom: 1px solid var(--line); }
.controls .slider { display: flex; flex: 1 1 12rem; gap: .5rem; align-items: center; }
.controls input { flex: 1; min-width: 4rem; accent-color: var(--accent); }
select { font: inherit; max-width: min(24rem, 70vw); }
output { flex: 0 1 14rem; }
.plot { display: grid; grid-template-columns: 3.5rem minmax(0, 1fr); column-gap: .5rem; }
.axis { display: flex; flex-direction: column; justify-content: space-between; align-items: flex-end;
  color: var(--quiet); font-size: .75rem; line-height: 1; }
.axis.calls { flex-direction: row; padding-top: .3rem; }
.area { position: relative; border: 1px solid var(--line); }
#heat, .curve { cursor: pointer; }
.area canvas, .area svg { display: block; width: 100%; max-width: none; }
.curve svg { height: 6rem; } .bars svg { height: 9rem; }
.area path, .area line { fill: none; vector-effect: non-scaling-stroke; stroke: var(--accent); stroke-width: 1.75; }
.area line { stroke: var(--bad); stroke-width: 1.25; stroke-dasharray: 5 3; }
.area rect { fill: var(--accent); }
.cursor { position: absolute; top: 0; bottom: 0; box-sizing: border-box; border: 1.5px solid var(--bad); min-width: 3px; pointer-events: none; }
.under { display: flex; flex-wrap: wrap; gap: .2rem 1.5rem; margin: .35rem 0 0 4rem; color: var(--quiet); font-size: .8rem; }
#scale { width: 8rem; height: .7rem; vertical-align: -.05rem; }
.blank { display: inline-block; width: .8rem; height: .7rem; border: 1px solid var(--line); vertical-align: -.05rem; }
#pointed { margin: .35rem 0 0 4rem; font-size: .85rem; min-height: 1.5em; }
.line::before, .dashed::before { content: ""; display: inline-block; width: 1.6rem; margin-right: .4rem; vertical-align: .25rem;
  border-top: 2px solid var(--accent); }
.dashed::before { border-top: 2px dashed var(--bad); }
details { margin-top: .75rem; } summary { cursor: pointer; }
.terms { display: block; } .terms dt { color: inherit; font-size: inherit; font-weight: 600; margin-top: .6rem; }
@media (max-width: 600px) {
  .plot { grid-template-columns: 2.75rem minmax(0, 1fr); }
  .under, #pointed { margin-left: 0; }
}`;
