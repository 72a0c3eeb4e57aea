"""The look of report pages: one column, light and dark, readable on a phone."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data: file: 'self'"
"""No scripts and nothing from elsewhere, whatever a model answered."""

COLOURS = {
    "model": "var(--c1)",
    "endpoint": "var(--c1)",
    "cascade": "var(--c2)",
    "typed": "var(--c3)",
    "base": "var(--c4)",
    "silent": "var(--c5)",
    "swapped": "var(--c6)",
}
OTHER_COLOUR = "var(--soft)"

STYLE = """
:root { color-scheme: light dark; --back: #fff; --ink: #1b1f24; --soft: #5c6670; --line: #d5dbe1; --box: #f5f7f9;
  --good: #0b6b2b; --good-back: #e2f4e6; --bad: #a3140a; --bad-back: #fde5e3; --warn: #7a5200; --warn-back: #fdf1d8;
  --red: #b3261e; --red-ink: #fff; --link: #0b4a8f; --c1: #1d5fd0; --c2: #c0531a; --c3: #0a7d6c; --c4: #7a3fb8;
  --c5: #7b8794; --c6: #9a6b00; }
@media (prefers-color-scheme: dark) { :root { --back: #14171a; --ink: #e4e8ec; --soft: #9aa4ae; --line: #343b42;
  --box: #1c2125; --good: #8fdca3; --good-back: #12301b; --bad: #ffb0a8; --bad-back: #3d1613; --warn: #f0c060;
  --warn-back: #35290f; --red: #c62f25; --red-ink: #fff; --link: #8fbcf5; --c1: #7fb0ff; --c2: #ff9a63;
  --c3: #5fd3c0; --c4: #c79bf5; --c5: #8b96a1; --c6: #e0b352; } }
* { box-sizing: border-box; }
body { background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; max-width: 64rem;
  margin: 0 auto; padding: 1rem 1.2rem 4rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: .6rem 0 .2rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .5rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .3rem; } h4 { font-size: .9rem; margin: 1rem 0 .2rem; color: var(--soft); }
p { margin: .35rem 0; } .soft { color: var(--soft); } .small { font-size: .85rem; }
a { color: var(--link); } nav a { margin-right: .9rem; white-space: nowrap; }
.broken { background: var(--red); color: var(--red-ink); border-radius: 8px; padding: .9rem 1.1rem; margin: 1rem 0; }
.broken h2 { border: 0; margin: 0 0 .3rem; font-size: 1.3rem; } .broken li { margin: .35rem 0; font-size: 1.05rem; }
.stamp { background: var(--red); color: var(--red-ink); border-radius: 4px; padding: .05rem .45rem; font-size: .8rem;
  font-weight: 700; white-space: nowrap; }
.word { border-left: 5px solid var(--line); background: var(--box); border-radius: 4px; padding: .5rem .8rem;
  margin: .5rem 0; }
.word.better { border-color: var(--good); background: var(--good-back); }
.word.worse { border-color: var(--bad); background: var(--bad-back); }
.word.warning { border-color: var(--warn); background: var(--warn-back); } .word b { margin-right: .4rem; }
.wide { overflow-x: auto; max-width: 100%; } .wide td, .wide th { overflow-wrap: normal; }
.wide td:first-child { min-width: 6.5rem; } table { border-collapse: collapse; margin: .4rem 0; }
td, th { text-align: left; padding: .25rem 1.1rem .25rem 0; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.v { white-space: nowrap; font-variant-numeric: tabular-nums; overflow-wrap: normal; } tr.own td { font-weight: 600; }
.few { color: var(--warn); font-size: .8rem; } span.few { white-space: nowrap; }
svg { display: block; max-width: 100%; height: auto; margin: .4rem 0; } svg text { fill: var(--soft); }
.key > span { margin-right: 1rem; white-space: nowrap; } .dot { display: inline-block; width: .7rem; height: .7rem;
  border-radius: 50%; margin-right: .35rem; }
.item { border: 1px solid var(--line); border-radius: 6px; padding: .6rem .8rem; margin: .6rem 0;
  background: var(--box); }
.item audio { width: 100%; max-width: 420px; height: 36px; display: block; margin: .25rem 0; }
.diff { font-size: 1.02rem; } del { color: var(--bad); background: var(--bad-back); text-decoration: line-through; }
ins { color: var(--good); background: var(--good-back); text-decoration: underline; }
pre { background: var(--box); border: 1px solid var(--line); border-radius: 6px; padding: .8rem; overflow-x: auto;
  font-size: 12.5px; white-space: pre; } details { margin: .4rem 0; } summary { cursor: pointer; color: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .4rem 0; }
dt { color: var(--soft); }
dd { margin: 0; }
@media (max-width: 40rem) { body { padding: .7rem .8rem 3rem; } td, th { padding-right: .7rem; }
  dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } .wide table { font-size: .88rem; } }
"""
