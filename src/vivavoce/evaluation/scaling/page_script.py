"""The script of a law's page: two drawings as SVG, and a pair of sliders."""

SCRIPT = r"""
// as wide as its place, so that words keep their size; R leaves room for half of the last label
const W = Math.max(280, Math.min(760, document.body.clientWidth - 32)), H = 340, M = 58, R = 26;
const shades = ["#2563eb","#dc2626","#059669","#d97706","#7c3aed","#0891b2","#be185d"];
const law = i => Object.fromEntries(["E","A","B","a","b"].map(k => [k, i < 0 ? made.law[k].value : made.refits[k][i]]));
const at = (w, n, d) => w.E + w.A * n ** -w.a + w.B * d ** -w.b;
const best = law(-1), refits = made.refits.E.map((_, i) => law(i));
function interval(n, d) {
  const all = refits.map(w => at(w, n, d)).sort((x, y) => x - y);
  if (!all.length) return [NaN, NaN];
  const pick = q => all[Math.round(q * (all.length - 1))];
  return [pick(1 - made.method.outer), pick(made.method.outer)];
}
const short = x => x >= 1e4 || x < 1e-2 ? x.toExponential(1).replace("e+", "e") : +x.toPrecision(3) + "";
function frame(xs, ys, xname, yname) {
  const [x0, x1] = [Math.min(...xs), Math.max(...xs)].map(Math.log), [y0, y1] = [Math.min(...ys), Math.max(...ys)];
  const px = x => M + (Math.log(x) - x0) / (x1 - x0 || 1) * (W - M - R);
  const py = y => 8 + (y1 - y) / (y1 - y0 || 1) * (H - 48);
  let svg = "";
  for (let i = 0; i < 5; i++) {
    const y = y0 + (y1 - y0) * i / 4, x = Math.exp(x0 + (x1 - x0) * i / 4);
    svg += `<line x1=${M} x2=${W - R} y1=${py(y)} y2=${py(y)} stroke="#8884"/>` +
      `<text x=${M - 4} y=${py(y) + 4} font-size=11 text-anchor=end fill=currentColor>${y.toFixed(2)}</text>` +
      `<text x=${px(x)} y=${H - 24} font-size=11 text-anchor=middle fill=currentColor>${short(x)}</text>`;
  }
  svg += `<text x=${W / 2} y=${H - 6} font-size=12 text-anchor=middle fill=currentColor>${xname}</text>`;
  return {px, py, svg, yname};
}
const path = (f, xs, ys) => xs.map((x, i) => `${f.px(x).toFixed(1)},${f.py(ys[i]).toFixed(1)}`).join(" ");
const drawing = svg => `<svg viewBox="0 0 ${W} ${H}" width=${W} role=img>${svg}</svg>`;
const steps = (lo, hi, n) => [...Array(n).keys()].map(i => lo * (hi / lo) ** (i / (n - 1)));
const [nlo, nhi] = made.range.n, [dlo, dhi] = made.range.tokens;
const along = (lo, hi, share) => (lo / 3) * (hi * 9 / lo) ** share;

function curves() {
  const n = along(nlo, nhi, size.value / 1000), d = along(dlo, dhi, tokens.value / 1000);
  const sizes = [...new Set(made.points.map(p => p.n))].sort((x, y) => x - y), ds = steps(dlo / 3, dhi * 3, 50);
  const mine = ds.map(x => at(best, n, x)), ends = ds.map(x => interval(n, x));
  const losses = [...made.points.map(p => p.loss), ...sizes.flatMap(s => [at(best, s, dlo / 2), at(best, s, dhi * 3)])];
  const f = frame(ds, losses, "tokens D", "loss");
  let svg = f.svg;
  for (const edge of [dlo, dhi])
    svg += `<line x1=${f.px(edge)} x2=${f.px(edge)} y1=8 y2=${H - 40} stroke="#888" stroke-dasharray=3 />`;
  sizes.forEach((s, i) => {
    const shade = shades[i % shades.length];
    svg += `<polyline fill=none stroke="${shade}" points="${path(f, ds, ds.map(x => at(best, s, x)))}"/>`;
    for (const p of made.points.filter(p => p.n === s))
      svg += `<circle cx=${f.px(p.tokens)} cy=${f.py(p.loss)} r=4 fill="${shade}">` +
        `<title>N ${short(p.n)}, D ${short(p.tokens)}: ${p.loss.toFixed(4)}, by the law ` +
        `${p.law.toFixed(4)}</title></circle>`;
  });
  const band = path(f, ds, ends.map(e => e[0])) + " " + path(f, [...ds].reverse(), ends.map(e => e[1]).reverse());
  svg += `<polygon points="${band}" fill="#8883"/>` +
    `<polyline fill=none stroke=currentColor stroke-width=2 points="${path(f, ds, mine)}"/>`;
  svg += `<circle cx=${f.px(d)} cy=${f.py(at(best, n, d))} r=6 fill=none stroke=currentColor stroke-width=2 />`;
  document.getElementById("curves").innerHTML = drawing(svg);
  const far = Math.max(n / nhi, nlo / n, d / dhi, dlo / d), [low, high] = interval(n, d);
  told.textContent = `N ${short(n)}, D ${short(d)}, C ${short(6 * n * d)}: ` +
    `${at(best, n, d).toFixed(4)} nats a token, ` +
    `refits say ${low.toFixed(4)} to ${high.toFixed(4)}` + (far > 1 ? `; ${far.toFixed(2)} times beyond the grid` : "");
}
function valleys() {
  const all = made.valleys.valleys;
  if (!all.length) return;
  const f = frame(all.flatMap(v => v.sizes), all.flatMap(v => v.losses), "parameters N", "loss");
  let svg = f.svg;
  all.forEach((v, i) => {
    const shade = shades[i % shades.length];
    svg += `<polyline fill=none stroke="${shade}" points="${path(f, v.sizes, v.losses)}">` +
      `<title>C ${short(v.flops)}</title></polyline>`;
    if (v.n !== null)
      svg += `<circle cx=${f.px(v.n)} cy=${f.py(v.loss)} r=6 fill="${shade}">` +
        `<title>N* ${short(v.n)}</title></circle>`;
  });
  document.getElementById("valleys").innerHTML = drawing(svg);
}
const size = document.getElementById("size"), tokens = document.getElementById("tokens");
const told = document.getElementById("told");
size.oninput = tokens.oninput = curves;
curves(); valleys();
"""
