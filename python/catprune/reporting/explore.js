// The page of `explore`: decides about every sampled pair as the core does, and shows what each threshold changes.
"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const count = data.rows.length;
const element = id => document.getElementById(id);
const every = (length, value) => Array.from({ length }, (_, place) => value(place));
const bitOf = reason => 2 ** data.reasonNames.indexOf(reason.replaceAll("_", " ")); // no bit if the name is unknown
const unmeasured = data.unmeasured.reduce((mask, reason) => mask | bitOf(reason), 0);
const measured = pair => data.filters.length > 0 && !(data.reasons[pair] & unmeasured);
const text = number => number.toLocaleString("en");
const percent = (part, whole) => whole ? `${(100 * part / whole).toFixed(1)}%` : "–";
const short = number => Number.isInteger(number) && Math.abs(number) < 1e9 ? text(number) : String(+number.toPrecision(4));

// A threshold has: value (null is none), start (the value of the run), at(pair) → measure or NaN, drops(pair, value),
// applies(pair, of) → whether the pair reaches the threshold at all, and hits: what it drops, as 0 and 1.

function filterOf(entry) {
  const columns = name => name ? data.sides.map(side => data.measures[`${side}_${name}`]) : null;
  const tops = columns(entry.top), bottoms = columns(entry.bottom), below = entry.bound === "min";
  const most = (values, pair) => Math.max(...values.map(side => side[pair]));
  const least = (values, pair) => Math.min(...values.map(side => side[pair]));
  // What is measured, as shares [top, bottom] of which one that breaks the rule is enough.
  const shares = {
    ratio: pair => [[most(tops, pair), least(tops, pair)]],
    most: pair => [[most(tops, pair), most(bottoms, pair)]],
  }[entry.kind] ?? (pair => tops.map((top, side) => [top[pair], bottoms ? bottoms[side][pair] : 1]));
  const all = every(count, pair => measured(pair) ? shares(pair).filter(([top, bottom]) => top || bottom) : []);
  const measures = Float64Array.from(all, known => known.length
    ? (below ? Math.min : Math.max)(...known.map(([top, bottom]) => top / bottom)) : NaN);
  const product = entry.kind === "product" || entry.kind === "most";
  const breaks = product
    ? (pair, value) => all[pair].some(([top, bottom]) => below ? top < value * bottom : top > value * bottom)
    : (pair, value) => below ? measures[pair] < value : measures[pair] > value;
  const hasOwn = Object.keys(entry.own).length > 0;
  return {
    name: entry.name, reason: entry.reason.replaceAll("_", " "), below, start: entry.value, value: entry.value,
    whole: entry.whole, least: entry.least, most: entry.most, own: entry.own, box: element(`filter-${entry.name}`),
    at: pair => measures[pair],
    drops: (pair, value) => breaks(pair, hasOwn ? entry.own[data.inputs[pair]] ?? value : value),
    hits: new Uint8Array(count),
  };
}

const valuesOf = entry => Float32Array.from(data.values[entry.values], value => value ?? NaN);

function conditionsOf(entry, place) {
  const values = valuesOf(entry);
  const bound = (id, below) => ({
    name: `${entry.name} ${below ? ">=" : "<="}`, column: entry.name, op: below ? ">=" : "<=", below, start: null,
    value: null, whole: false, least: null, most: null, box: element(`${id}-${place}`), usable: true,
    at: pair => values[pair],
    // A pair without the value does not pass; values are compared in single precision, as `where` does.
    drops: (pair, value) => value !== null && !(below ? values[pair] >= Math.fround(value) : values[pair] <= Math.fround(value)),
    hits: new Uint8Array(count),
  });
  return [bound("least", true), bound("most", false)];
}

const filters = data.filters.map(filterOf);
const switches = data.switches.map(entry => ({
  ...entry, name: entry.reason.replaceAll("_", " "), bit: bitOf(entry.reason), box: element(`switch-${entry.reason}`), on: true,
}));
const conditions = data.conditions.flatMap(conditionsOf);
const selections = data.selections.map(entry => ({
  ...entry, scores: valuesOf(entry),
}));
const keep = selections.length
  ? { name: "keep", whole: false, least: 0, most: 100, start: 50, value: 50, box: element("keep"), hits: new Uint8Array(count) }
  : null;
const sliders = [...filters, ...(keep ? [keep, ...conditions] : [])];
const changeable = [...filters.map(filter => bitOf(filter.reason)), ...switches.map(entry => entry.bit)].reduce((a, b) => a | b, 0);

const drops = new Uint8Array(count); // how many reasons of cleaning a pair has
const fails = new Uint8Array(count); // how many conditions a clean pair does not meet
const kept = new Uint8Array(count);
const rank = new Float64Array(count); // share of its group that ranks before the pair; NaN if it is not ranked
let ranking = null, active = null, baseline = null;

function decide() {
  drops.fill(0); fails.fill(0); kept.fill(0); rank.fill(NaN);
  for (let pair = 0; pair < count; pair++) {
    if (data.reasons[pair] & ~changeable) drops[pair]++;
    for (const entry of switches) if (entry.on && data.reasons[pair] & entry.bit) drops[pair]++;
  }
  for (const filter of filters) for (let pair = 0; pair < count; pair++) {
    drops[pair] += filter.hits[pair] = filter.drops(pair, filter.value) ? 1 : 0;
  }
  if (!ranking) {
    for (let pair = 0; pair < count; pair++) kept[pair] = drops[pair] ? 0 : 1;
    return;
  }
  for (const condition of conditions) for (let pair = 0; pair < count; pair++) {
    fails[pair] += condition.hits[pair] = condition.usable && !drops[pair] && condition.drops(pair, condition.value) ? 1 : 0;
  }
  rankPairs();
}

const isEligible = pair => !drops[pair] && !fails[pair] && !Number.isNaN(ranking.scores[pair]);

function rankPairs() {
  const groups = new Map();
  for (let pair = 0; pair < count; pair++) {
    keep.hits[pair] = 0;
    if (!isEligible(pair)) continue;
    if (!groups.has(ranking.groups[pair])) groups.set(ranking.groups[pair], []);
    groups.get(ranking.groups[pair]).push(pair);
  }
  const sign = ranking.direction === "bottom" ? 1 : -1;
  for (const pairs of groups.values()) {
    pairs.sort((a, b) => sign * (ranking.scores[a] - ranking.scores[b]) || a - b);
    const wanted = Math.floor(pairs.length * keep.value / 100 + 1e-9);
    const first = ranking.direction === "middle" ? Math.floor((pairs.length - wanted) / 2) : 0;
    pairs.forEach((pair, place) => {
      const middle = Math.abs(2 * (place + 0.5) / pairs.length - 1);
      rank[pair] = ranking.direction === "middle" ? middle : (place + 0.5) / pairs.length;
      kept[pair] = place >= first && place < first + wanted ? 1 : 0;
      keep.hits[pair] = 1 - kept[pair];
    });
  }
}

const sum = values => values.reduce((total, value) => total + value, 0);
const countWhere = test => { let found = 0; for (let pair = 0; pair < count; pair++) if (test(pair)) found++; return found; };
const isAlone = slider => slider === keep ? pair => !!keep.hits[pair]
  : slider.column ? pair => fails[pair] === 1 && slider.hits[pair] === 1 : pair => drops[pair] === 1 && slider.hits[pair] === 1;

function showCounts() {
  const clean = countWhere(pair => !drops[pair]);
  element("clean-count").textContent = text(clean);
  element("clean-share").textContent = `${percent(clean, count)}, about ${text(Math.round(data.total * clean / (count || 1)))} of all`;
  const chosen = sum(kept);
  if (keep) {
    const unscored = ranking ? countWhere(pair => !drops[pair] && Number.isNaN(ranking.scores[pair])) : 0;
    element("kept-count").textContent = ranking ? text(chosen) : "–";
    element("kept-share").textContent = ranking ? `${percent(chosen, count)} of the sample${unscored ? `; ${text(unscored)} clean pairs have no score` : ""}` : "";
  }
  const gone = countWhere(pair => baseline[pair] && !kept[pair]), back = countWhere(pair => !baseline[pair] && kept[pair]);
  element("changed-count").textContent = text(gone + back);
  element("changed-more").textContent = `${text(back)} come back, ${text(gone)} go`;
  for (const slider of sliders) {
    const of = slider === keep ? countWhere(pair => !Number.isNaN(rank[pair])) : slider.column ? clean : count;
    const dropped = sum(slider.hits);
    slider.box.querySelector("output").textContent = slider === keep
      ? `keeps ${text(of - dropped)} of ${text(of)}`
      : `drops ${text(dropped)} (${percent(dropped, of)}), alone ${text(countWhere(isAlone(slider)))}`;
    slider.box.classList.toggle("changed", slider.value !== slider.start);
  }
  for (const entry of switches) {
    const has = pair => data.reasons[pair] & entry.bit;
    const dropped = countWhere(has), alone = countWhere(pair => has(pair) && drops[pair] === (entry.on ? 1 : 0));
    entry.box.querySelector("output").textContent = `${entry.on ? "drops" : "would drop"} ${text(dropped)} (${percent(dropped, count)}), alone ${text(alone)}`;
  }
}

// Charts: the share of pairs that each value of the threshold would drop.

function rangeOf(slider) {
  if (slider === keep) return [0, 100];
  const values = every(count, slider.at).filter(Number.isFinite).sort((a, b) => a - b);
  const end = share => values.length ? values[Math.min(values.length - 1, Math.floor(share * values.length))] : 0;
  if (slider.most === 1) return [0, 1];
  const outer = slider.column ? [end(0.005), end(0.995)] : [slider.least, Math.max(end(0.995), slider.start)];
  const [low, high] = outer;
  if (slider.whole) return [low, Math.max(low + 10, Math.ceil(high * 1.1))];
  const step = stepOf(slider, [low, high]);
  return [Math.floor(low / step) * step, Math.max(low + step, Math.ceil(high / step) * step)].map(value => +value.toPrecision(12));
}

function stepOf(slider, [low, high]) {
  if (slider === keep || slider.whole) return 1;
  if (slider.most === 1) return 0.01;
  const rough = (high - low || 1) / 200, power = 10 ** Math.floor(Math.log10(rough));
  return +([1, 2, 5, 10].find(factor => factor * power >= rough * 0.999) * power).toPrecision(6);
}

function curveOf(slider) {
  const [low, high] = slider.range;
  const steps = slider.whole ? Math.min(120, high - low) : 100;
  const values = [...new Set(every(steps + 1, place => {
    const value = low + (high - low) * place / steps;
    return slider.whole ? Math.round(value) : +value.toPrecision(6);
  }))];
  const reasons = slider.column ? fails : drops;
  const reached = slider.column ? pair => !drops[pair] : () => true;
  const others = every(count, pair => reached(pair) && reasons[pair] === slider.hits[pair]);
  const of = countWhere(reached) || 1;
  const curves = values.map(value => {
    let all = 0, alone = 0;
    for (let pair = 0; pair < count; pair++) if (reached(pair) && slider.drops(pair, value)) { all++; if (others[pair]) alone++; }
    return [100 * all / of, 100 * alone / of];
  });
  return { x: values, all: curves.map(curve => curve[0]), alone: curves.map(curve => curve[1]) };
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  return name => style.getPropertyValue(`--${name}`).trim();
}

function line(x, dash, colour) {
  return { type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: colour, width: 1.5, dash } };
}

function layoutOf(xTitle, yTitle, shapes) {
  const colour = colours();
  const axis = title => ({ title: { text: title, font: { size: 12 } }, gridcolor: colour("line"), zeroline: false, fixedrange: true, automargin: true });
  return {
    xaxis: axis(xTitle), yaxis: { ...axis(yTitle), rangemode: "tozero" }, shapes, margin: { l: 48, r: 10, t: 8, b: 40 },
    paper_bgcolor: "transparent", plot_bgcolor: "transparent", font: { color: colour("soft"), size: 12, family: "system-ui, sans-serif" },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, hovermode: "x", barmode: "stack", bargap: 0,
    hoverlabel: { bgcolor: colour("tint"), bordercolor: colour("line"), font: { color: colour("ink") } },
  };
}

function drawThreshold(slider) {
  const colour = colours(), curve = curveOf(slider);
  const trace = (name, y, shown, dash) => ({
    type: "scatter", mode: "lines", name, x: curve.x, y, line: { color: shown, width: 2, dash }, hovertemplate: "%{y:.1f}%",
  });
  const shapes = slider.value === null ? [] : [line(slider.value, "solid", colour("ink"))];
  if (slider.start !== null && slider.start !== slider.value) shapes.push(line(slider.start, "dot", colour("soft")));
  const of = slider.column ? "clean pairs" : "pairs";
  element("chart-text").textContent = `Share of the ${of} that a threshold drops. ${shapes.length > 1 ? "Solid: the threshold; dotted: that of the run." : ""}`;
  return [[trace("dropped", curve.all, colour("kept"), "solid"), trace("by nothing else", curve.alone, colour("c1"), "dash")],
    { ...layoutOf(slider.name, `% of ${of}`, shapes), xaxis: { ...layoutOf(slider.name, "", []).xaxis, range: slider.range } }];
}

function drawScores() {
  const colour = colours(), [low, high] = ranking.range;
  const bins = 60, width = (high - low) / bins || 1;
  const heights = [new Array(bins).fill(0), new Array(bins).fill(0)];
  for (let pair = 0; pair < count; pair++) if (isEligible(pair)) {
    const bin = Math.min(bins - 1, Math.max(0, Math.floor((ranking.scores[pair] - low) / width)));
    heights[kept[pair]][bin]++;
  }
  const x = every(bins, bin => low + (bin + 0.5) * width);
  const bars = (name, y, shown) => ({ type: "bar", name, x, y, marker: { color: shown, line: { width: 0 } }, hovertemplate: "%{y}" });
  element("chart-text").textContent = "Scores of the ranked pairs; the outer bars hold the pairs beyond.";
  return [[bars("kept", heights[1], colour("kept")), bars("dropped", heights[0], colour("dropped"))],
    layoutOf(`score of ${ranking.name}`, "pairs", [])];
}

// Tables of pairs.

function decisionOf(pair) {
  const reasons = [];
  const fixed = data.reasons[pair] & ~changeable;
  data.reasonNames.forEach((name, bit) => { if (fixed >>> bit & 1) reasons.push(name); });
  for (const entry of switches) if (entry.on && data.reasons[pair] & entry.bit) reasons.push(entry.name);
  for (const filter of filters) if (filter.hits[pair]) reasons.push(`${filter.reason} (${short(filter.at(pair))})`);
  if (reasons.length) return `dropped: ${reasons.join(", ")}`;
  if (!ranking) return "clean";
  const failed = conditions.filter(condition => condition.hits[pair]);
  if (failed.length) return `dropped: not ${failed.map(condition => `${condition.column} ${condition.op} ${condition.value}`).join(", ")}`;
  if (Number.isNaN(ranking.scores[pair])) return "dropped: no score";
  return kept[pair] ? "kept" : `dropped: not in the ${keep.value}%`;
}

function detailsOf(pair) {
  const known = Object.entries(data.values).filter(([, column]) => column[pair] !== null);
  return [decisionOf(pair), ...known.map(([name, column]) => `${name} ${short(column[pair])}`)].join(" · ");
}

function measuresOf(pair) {
  const names = new Set(Object.keys(data.measures).map(name => name.replace(/^(source|target)_/, "")));
  const sides = name => data.sides.map(side => data.measures[`${side}_${name}`]?.[pair]).filter(value => value != null);
  return [...names].map(name => `${name.replaceAll("_", " ")} ${sides(name).map(text).join(" | ")}`).join(" · ");
}

function cell(row, content, head) {
  const td = row.insertCell();
  if (head) { td.className = "number"; td.dataset.head = head; td.textContent = content; return; }
  td.append(Object.assign(document.createElement("bdi"), { textContent: content }));
}

function tableOf(pairs, name, valueOf) {
  const table = element("pair-table").content.firstElementChild.cloneNode(true);
  table.tHead.rows[0].cells[1].textContent = name;
  for (const pair of pairs) {
    const row = table.tBodies[0].insertRow();
    row.className = "explained";
    cell(row, text(data.rows[pair]), "row");
    cell(row, valueOf(pair), name);
    for (const side of data.sides) cell(row, data.texts[side][pair] ?? "");
    const why = table.tBodies[0].insertRow();
    why.className = "why";
    why.insertCell().colSpan = 2 + data.sides.length;
    why.cells[0].append(detailsOf(pair));
    if (measured(pair)) {
      const more = document.createElement("details");
      more.append(heading("summary", "measures"), measuresOf(pair));
      why.cells[0].append(more);
    }
  }
  return table;
}

function heading(name, content) {
  return Object.assign(document.createElement(name), { textContent: content });
}

const NEAR = 6; // pairs on each side of the threshold

function showNear() {
  const shown = [];
  const reasons = active.column ? fails : drops;
  const measure = active === keep ? pair => rank[pair] : active.at;
  const aim = active === keep ? keep.value / 100 : active.value;
  const valueOf = active === keep ? pair => short(ranking.scores[pair]) : pair => short(active.at(pair));
  const decides = pair => !Number.isNaN(measure(pair)) && (active === keep || (reasons[pair] === active.hits[pair] && (!active.column || !drops[pair])));
  const pairs = aim === null ? [] : every(count, pair => pair).filter(decides);
  for (const [title, hit] of [["Just dropped", 1], ["Just kept", 0]]) {
    const nearest = pairs.filter(pair => active.hits[pair] === hit)
      .sort((a, b) => Math.abs(measure(a) - aim) - Math.abs(measure(b) - aim) || a - b).slice(0, NEAR);
    if (nearest.length) shown.push(heading("h3", title), tableOf(nearest, active === keep ? "score" : "value", valueOf));
  }
  if (!shown.length) shown.push(heading("p", aim === null ? "Not a condition yet: move it to see pairs at it." : "No pair depends on this threshold alone."));
  element("at-threshold").replaceChildren(...shown);
}

function showPanel() {
  if (active && !active.box.offsetParent && active.box.classList.contains("off")) active = null;
  const hasChart = active && typeof Plotly !== "undefined" && (active !== keep || ranking);
  element("panel-name").textContent = active ? active.name : "Threshold";
  element("panel-hint").hidden = !!active;
  for (const slider of sliders) {
    slider.box.classList.toggle("active", slider === active);
    slider.box.querySelector("button").setAttribute("aria-expanded", String(slider === active));
  }
  element("chart").parentElement.hidden = !hasChart;
  if (!active) { element("at-threshold").replaceChildren(); return; }
  showNear();
  if (!hasChart) return;
  const [traces, layout] = active === keep ? drawScores() : drawThreshold(active);
  element("chart").setAttribute("aria-label", `${active.name}: ${active.box.querySelector("output").textContent}`);
  Plotly.react("chart", traces, layout, { displayModeBar: false, responsive: true });
}

function placePanel() {
  // On a narrow page the panel follows its threshold, on a wide one it stands next to all of them.
  if (narrow.matches && active) active.box.after(element("panel"));
  else document.querySelector(".work").append(element("panel"));
}

// Search.

let results = [], resultsShown = 0;

function search() {
  const query = element("query").value.toLocaleLowerCase(), wanted = element("decision").value;
  results = [];
  for (let pair = 0; pair < count; pair++) {
    if (wanted && (wanted === "kept") !== !!kept[pair]) continue;
    if (!query || data.sides.some(side => (data.texts[side][pair] ?? "").toLocaleLowerCase().includes(query))) results.push(pair);
  }
  element("found").textContent = `${text(results.length)} ${results.length === 1 ? "pair" : "pairs"}`;
  resultsShown = 0;
  element("results").replaceChildren();
  showMore();
}

function showMore() {
  const next = results.slice(resultsShown, resultsShown += 20);
  const valueOf = pair => ranking && !Number.isNaN(ranking.scores[pair]) ? short(ranking.scores[pair]) : "–";
  if (next.length) element("results").append(tableOf(next, "score", valueOf));
  element("more").hidden = resultsShown >= results.length;
}

// Export.

const number = (value, whole) => whole || !Number.isInteger(value) ? String(value) : value.toFixed(1);

function exported() {
  const lines = [data.header];
  const own = filters.some(filter => Object.keys(filter.own).length);
  const values = {};
  for (const [name, [run]] of Object.entries(data.rules)) values[name] = run;
  for (const filter of filters) values[filter.name] = filter.value === filter.start ? values[filter.name] : number(filter.value, filter.whole);
  for (const entry of switches) if (!entry.on && entry.section === "clean.rules") values[entry.key] = entry.off;
  const clean = switches.filter(entry => !entry.on && entry.section === "clean").map(entry => `${entry.key} = ${entry.off}`);
  if (clean.length) lines.push("", "[clean]", ...clean);
  const rules = Object.entries(data.rules).filter(([name, [run, usual]]) => values[name] !== usual || run !== usual);
  if (rules.length) lines.push("", "[clean.rules]", ...(own ? ["# Inputs with thresholds of their own keep them."] : []), ...rules.map(([name]) => `${name} = ${values[name]}`));
  if (ranking) {
    const where = [...ranking.where.filter(guard => !guard.shown).map(guard => `${guard.name}${guard.op}${guard.value}`),
      ...conditions.filter(condition => condition.usable && condition.value !== null).map(condition => `${condition.column}${condition.op}${condition.value}`)];
    lines.push("", "[[select]]", ...ranking.toml, `keep = "${keep.value}%"`);
    if (where.length) lines.push(`where = [${where.map(condition => `"${condition}"`).join(", ")}]`);
  }
  return lines.join("\n") + "\n";
}

function showExport() {
  const toml = exported();
  element("toml").value = toml;
  element("toml").rows = Math.min(24, toml.split("\n").length);
  element("download").href = `data:application/toml;charset=utf-8,${encodeURIComponent(toml)}`;
}

// Events.

let waiting = false;

function update() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    decide(); showCounts(); showPanel(); showExport(); search();
  });
}

function setRange(slider) {
  const [range, field] = slider.box.querySelectorAll("input");
  [range.min, range.max] = slider.range;
  range.step = slider.step;
  if (slider.least !== null) field.min = slider.least;
  if (slider.most !== null) field.max = slider.most;
  if (slider.whole) field.step = 1;
}

function showValue(slider) {
  const [range, field] = slider.box.querySelectorAll("input");
  range.value = slider.value ?? (slider.below ? slider.range[0] : slider.range[1]);
  field.value = slider.value ?? "";
}

function choose(slider) {
  if (active !== slider) { active = slider; placePanel(); }
}

function connect(slider) {
  const [range, field] = slider.box.querySelectorAll("input");
  slider.range = rangeOf(slider);
  slider.step = stepOf(slider, slider.range);
  setRange(slider); showValue(slider);
  const set = (value, from) => {
    slider.value = value;
    choose(slider);
    if (from === range) field.value = value ?? ""; else range.value = value ?? (slider.below ? range.min : range.max);
    update();
  };
  range.addEventListener("input", () => {
    const atEnd = slider.column && range.value === (slider.below ? range.min : range.max);
    set(atEnd ? null : Number(range.value), range);
  });
  field.addEventListener("input", () => {
    if (field.value === "" && slider.column) { if (!field.validity.badInput) set(null, field); return; }
    if (field.value !== "" && field.checkValidity()) set(Number(field.value), field);
  });
  field.addEventListener("change", () => showValue(slider));
  slider.box.querySelector("button").addEventListener("click", () => { active = active === slider && narrow.matches ? null : slider; placePanel(); update(); });
}

function chooseRanking() {
  const chosen = element("ranking")?.value;
  ranking = chosen ? selections[Number(chosen)] : null;
  for (const box of document.querySelectorAll(".ranked")) box.hidden = !ranking;
  for (const condition of conditions) {
    condition.usable = !!ranking && ranking.conditions.includes(condition.column);
    condition.box.classList.toggle("off", !condition.usable);
    const guard = ranking?.where.find(entry => condition.usable && entry.name === condition.column && entry.op === condition.op);
    if (guard) guard.shown = true;
    condition.start = condition.value = guard ? guard.value : null;
    showValue(condition);
  }
  if (!ranking) { if (active === keep || active?.column) active = null; }
  else {
    const scores = ranking.scores.filter(Number.isFinite).sort();
    ranking.range = [scores[Math.floor(0.005 * scores.length)] ?? 0, scores[Math.floor(0.995 * scores.length)] ?? 1];
    keep.start = keep.value = ranking.keep;
    showValue(keep);
  }
  if (!keep) return decideOfRun();
  const shown = ranking?.where.filter(guard => !guard.shown).map(guard => `${guard.name}${guard.op}${guard.value}`) ?? [];
  element("fixed").textContent = shown.length ? `Also required: ${shown.join(", ")}.` : "";
  decideOfRun();
}

function decideOfRun() {
  const now = sliders.map(slider => slider.value), on = switches.map(entry => entry.on);
  for (const slider of sliders) slider.value = slider.start;
  for (const entry of switches) entry.on = true;
  decide();
  baseline = kept.slice();
  sliders.forEach((slider, place) => { slider.value = now[place]; });
  switches.forEach((entry, place) => { entry.on = on[place]; });
}

function reset() {
  for (const slider of sliders) { slider.value = slider.start; showValue(slider); }
  for (const entry of switches) { entry.on = true; entry.box.querySelector("input").checked = true; }
  update();
}

const narrow = matchMedia("(max-width: 900px)");
narrow.addEventListener("change", () => { placePanel(); update(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", update);
sliders.forEach(connect);
for (const entry of switches) entry.box.querySelector("input").addEventListener("change", event => { entry.on = event.target.checked; update(); });
element("ranking")?.addEventListener("change", () => { chooseRanking(); placePanel(); update(); });
element("query").addEventListener("input", search);
element("decision").addEventListener("change", search);
element("more").addEventListener("click", showMore);
element("reset").addEventListener("click", reset);
element("copy").addEventListener("click", async () => {
  element("toml").select();
  try { await navigator.clipboard.writeText(element("toml").value); element("copied").textContent = "copied"; }
  catch { element("copied").textContent = "selected: press Ctrl+C"; }
});
chooseRanking();
decide(); showCounts(); showExport(); search();
// The charts' library comes after this script, so that counts are there before it is read.
document.addEventListener("DOMContentLoaded", showPanel);
})();
