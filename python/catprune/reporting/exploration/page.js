// The page of `explore`: counts, tables of pairs, search, the piece of run file, and the events.

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
  return kept[pair] ? "kept" : `dropped: not in the ${short(keep.value)}%`;
}

function detailsOf(pair) {
  const known = Object.entries(data.values).filter(([, column]) => column[pair] !== null);
  const place = [];
  if (data.inputNames.length > 1) place.push(`input ${data.inputNames[data.inputs[pair]]}`);
  if (data.tags[pair]) place.push(`tag ${data.tags[pair]}`);
  return [decisionOf(pair), ...place, ...known.map(([name, column]) => `${name} ${short(column[pair])}`)].join(" · ");
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
    lines.push("", "[[select]]", ...ranking.toml, `keep = "${keep.value === keep.start ? ranking.share : `${keep.value}%`}"`);
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
  field.value = slider.value === null ? "" : Number(slider.value.toFixed(4));
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
    set(atEnd ? slider.start : Number(range.value), range);
  });
  field.addEventListener("input", () => {
    if (field.value === "" && slider.column) { if (!field.validity.badInput) set(slider.start, field); return; }
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
    // Pairs beyond a condition of the run have no score, so it can only be made stricter.
    const [range, field] = condition.box.querySelectorAll("input");
    const end = condition.below ? "min" : "max";
    range[end] = guard ? guard.value : condition.range[condition.below ? 0 : 1];
    field[end] = guard ? guard.value : "";
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
