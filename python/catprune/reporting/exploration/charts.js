// Charts of the page of `explore`: which share of the pairs each value of a threshold would drop.

function rangeOf(slider) {
  if (slider === keep) return [1, 100];
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
