// The thresholds of the page of `explore`, and what they decide about every sampled pair, as the core does.
"use strict";
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
// and hits: what it drops, as 0 and 1.

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
const selections = data.selections.map(entry => ({ ...entry, scores: valuesOf(entry) }));
const keep = selections.length
  ? { name: "keep", whole: false, least: 0.01, most: 100, start: 50, value: 50, box: element("keep"), hits: new Uint8Array(count) }
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

// How many pairs of each group are kept: the share of all of them, divided in proportion by largest remainder.
function shareOut(names, groups) {
  const all = names.reduce((total, name) => total + groups.get(name).length, 0);
  const total = Math.floor(all * keep.value / 100 + 1e-9);
  const exact = names.map(name => total * groups.get(name).length / (all || 1));
  const wanted = exact.map(number => Math.floor(number + 1e-9));
  const left = total - wanted.reduce((sum, number) => sum + number, 0);
  names.map((_, place) => place).sort((a, b) => (exact[b] - wanted[b]) - (exact[a] - wanted[a]) || a - b)
    .slice(0, left).forEach(place => { wanted[place]++; });
  return new Map(names.map((name, place) => [name, wanted[place]]));
}

function rankPairs() {
  const groups = new Map();
  for (let pair = 0; pair < count; pair++) {
    keep.hits[pair] = 0;
    if (!isEligible(pair)) continue;
    if (!groups.has(ranking.groups[pair])) groups.set(ranking.groups[pair], []);
    groups.get(ranking.groups[pair]).push(pair);
  }
  const sign = ranking.direction === "bottom" ? 1 : -1;
  const wantedOf = shareOut([...groups.keys()].sort((a, b) => a - b), groups);
  for (const [group, pairs] of groups) {
    pairs.sort((a, b) => sign * (ranking.scores[a] - ranking.scores[b]) || a - b);
    const wanted = wantedOf.get(group);
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
