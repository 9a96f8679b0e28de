/** The look of the page: dark and quiet; everything is inside `.fd-stage`, so that it changes nothing else. */
export const STYLE = `
.fd-stage { position: relative; width: 100%; height: 100%; min-height: 240px; overflow: hidden; border-radius: 8px;
  background: #17181a; color: #e6e4e0; font: 12px/1.4 system-ui, -apple-system, "Segoe UI", sans-serif; user-select: none;
  -webkit-user-select: none; container-type: size; }
.fd-stage * { box-sizing: border-box; }
.fd-stage canvas { position: absolute; inset: 0; width: 100%; height: 100%; display: block; outline: none; touch-action: none; cursor: grab; }
.fd-stage canvas:active { cursor: grabbing; }
.fd-stage[data-tool=light] canvas, .fd-stage[data-tool=gaze] canvas { cursor: crosshair; }
.fd-stage canvas:focus-visible { box-shadow: inset 0 0 0 1px #d8b98a88; }
.fd-stage button { all: unset; box-sizing: border-box; cursor: pointer; display: inline-flex; align-items: center; justify-content: center;
  height: 28px; padding: 0 10px; border-radius: 7px; color: #c9c6c0; font: inherit; white-space: nowrap; }
.fd-stage button:hover { color: #fff; background: #ffffff14; }
.fd-stage button:focus-visible, .fd-stage input:focus-visible, .fd-stage select:focus-visible, .fd-stage summary:focus-visible, .fd-pad:focus-visible
  { outline: 2px solid #d8b98a; outline-offset: 1px; }
.fd-stage button[aria-pressed=true], .fd-stage button[aria-checked=true] { color: #17181a; background: #d8b98a; }
.fd-stage svg { width: 16px; height: 16px; fill: none; stroke: currentColor; stroke-width: 1.6; stroke-linecap: round; stroke-linejoin: round; }
.fd-bar { position: absolute; display: flex; gap: 2px; padding: 4px; border-radius: 11px; background: #1d1e21d9; box-shadow: 0 2px 14px #0006; max-width: calc(100% - 20px); }
.fd-tools { left: 10px; top: 10px; }
.fd-tools button, .fd-side button { padding: 0; width: 30px; }
.fd-side { right: 10px; top: 10px; }
.fd-faces { left: 50%; bottom: 10px; transform: translateX(-50%); overflow-x: auto; scrollbar-width: none; }
.fd-stage[data-open] .fd-faces { left: calc((100% - 250px) / 2); max-width: calc(100% - 280px); }
.fd-stage[data-open] .fd-side { right: 258px; }
.fd-panel { position: absolute; right: 0; top: 0; bottom: 0; width: 248px; padding: 12px 14px 16px; overflow-y: auto; background: #1b1c1ff2;
  border-left: 1px solid #ffffff12; scrollbar-width: thin; scrollbar-color: #4a4b50 transparent; }
.fd-stage:not([data-open]) .fd-panel { display: none; }
.fd-panel h3 { margin: 14px 0 6px; font-size: 11px; font-weight: 600; color: #98958f; letter-spacing: .04em; }
.fd-panel h3:first-child { margin-top: 0; }
.fd-row { display: grid; grid-template-columns: 92px 1fr 36px; align-items: center; gap: 8px; min-height: 26px; }
.fd-row label { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; color: #b9b6b0; }
.fd-row output { text-align: right; color: #8d8a85; font-variant-numeric: tabular-nums; }
.fd-row.fd-wide { grid-template-columns: 92px 1fr; }
.fd-stage input[type=range] { -webkit-appearance: none; appearance: none; width: 100%; height: 18px; margin: 0; background: transparent; cursor: pointer; touch-action: pan-y; }
.fd-stage input[type=range]::-webkit-slider-runnable-track { height: 3px; border-radius: 2px; background: linear-gradient(90deg, #d8b98a var(--at, 0%), #3d3e43 var(--at, 0%)); }
.fd-stage input[type=range]::-webkit-slider-thumb { -webkit-appearance: none; width: 13px; height: 13px; margin-top: -5px; border-radius: 50%; background: #ece9e4; box-shadow: 0 1px 3px #0009; }
.fd-stage input[type=range]::-moz-range-track { height: 3px; border-radius: 2px; background: #3d3e43; }
.fd-stage input[type=range]::-moz-range-progress { height: 3px; border-radius: 2px; background: #d8b98a; }
.fd-stage input[type=range]::-moz-range-thumb { width: 13px; height: 13px; border: 0; border-radius: 50%; background: #ece9e4; }
.fd-stage input[type=color] { width: 100%; height: 22px; padding: 0; border: 0; border-radius: 5px; background: none; cursor: pointer; }
.fd-stage select { width: 100%; height: 26px; padding: 0 6px; border: 0; border-radius: 6px; background: #2b2c30; color: #e6e4e0; font: inherit; }
.fd-pad { position: relative; width: 132px; height: 132px; margin: 4px auto 8px; border-radius: 50%; touch-action: none; cursor: crosshair;
  background: radial-gradient(circle, #4a4a4d 0, #333438 48%, #24252870 51%, #232427 100%); box-shadow: inset 0 0 0 1px #ffffff1a; }
.fd-pad::before { content: ""; position: absolute; inset: 25%; border-radius: 50%; border: 1px dashed #ffffff24; }
.fd-pad i { position: absolute; width: 14px; height: 14px; margin: -7px; border-radius: 50%; background: #fff; box-shadow: 0 0 14px 3px currentColor, 0 0 0 2px #0007; pointer-events: none; }
.fd-stage details { border-top: 1px solid #ffffff0d; }
.fd-stage summary { list-style: none; cursor: pointer; padding: 6px 0; color: #c9c6c0; border-radius: 4px; }
.fd-stage summary::before { content: "+"; display: inline-block; width: 14px; color: #8d8a85; }
.fd-stage details[open] summary::before { content: "\\2212"; }
.fd-stage .fd-check { display: flex; align-items: center; gap: 8px; min-height: 26px; cursor: pointer; color: #b9b6b0; }
.fd-stage .fd-check input { accent-color: #d8b98a; margin: 0; }
.fd-note { position: absolute; inset: 0; display: flex; align-items: center; justify-content: center; text-align: center; padding: 30px; color: #d6d3cd; font-size: 13px; pointer-events: none; }
.fd-note:empty { display: none; }
@container (max-width: 430px) {
  .fd-panel { top: auto; left: 0; width: auto; height: 46%; border-left: 0; border-top: 1px solid #ffffff12; border-radius: 12px 12px 0 0; }
  .fd-stage[data-open] .fd-side { right: 10px; }
  .fd-stage[data-open] .fd-faces { display: none; }
}
`;
