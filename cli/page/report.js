"use strict";
// Draws the page from the JSON beside it. No library: lines over epochs, tables, and a matrix are all there is.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const page = document.getElementById("page");
  // Okabe and Ito's colours, told apart by colour-blind readers, on light and dark ground.
  const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#b8a000", "#7f7f7f"];
  const MANY_ROWS = 40;
  const DASHES = ["", "6 3", "2 3", "9 3 2 3"];
  const runs = data.runs.map((run, index) => ({ ...run, colour: COLOURS[index % COLOURS.length], dash: DASHES[Math.floor(index / COLOURS.length) % DASHES.length], shown: true }));
  const redraws = [];

  function element(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "style") node.style.cssText = value; // the policy forbids style attributes in markup, not this
      else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value !== null) node.setAttribute(key, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }
  function svg(tag, attributes = {}, text = "") {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.textContent = text;
    return node;
  }
  const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
  function show(value, digits = 3) {
    if (value === null || value === undefined || value === "") return "–";
    if (typeof value === "number") return Number.isInteger(value) ? String(value) : Math.abs(value) < 0.01 ? value.toPrecision(3) : value.toFixed(digits);
    return typeof value === "object" ? JSON.stringify(value) : String(value);
  }
  const showAccuracy = (value) => (isNumber(value) ? value.toFixed(3) : "–");
  const isTime = (text) => Boolean(text) && isNumber(Date.parse(text));
  const showTime = (text) => (isTime(text) ? new Date(text).toISOString().replace("T", " ").slice(0, 16) + " UTC" : "–");
  function showDuration(seconds) {
    if (!isNumber(seconds)) return "–";
    const minutes = Math.round(seconds / 60);
    return seconds < 90 ? `${Math.round(seconds)} s` : minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
  }
  const showSize = (bytes) => (isNumber(bytes) ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : "–");
  const timeCell = (text) => element("td", { class: "time" }, showTime(text));
  function swatch(run) {
    if (!run.dash) return element("span", { class: "swatch", style: `background:${run.colour}` });
    const picture = svg("svg", { class: "swatch", viewBox: "0 0 24 8" });
    picture.append(svg("line", { x1: 0, x2: 24, y1: 4, y2: 4, stroke: run.colour, "stroke-width": 4, "stroke-dasharray": run.dash }));
    return picture;
  }
  const named = (run) => element("span", { class: "name" }, swatch(run), run.name);
  function table(titles, rows, numbers = []) {
    const cell = (tag, value, index) => element(tag, { class: numbers.includes(index) ? "number" : null }, value instanceof Node ? value : show(value));
    const whole = element("div", { class: "scroll" }, element("table", {},
      element("thead", {}, element("tr", {}, ...titles.map((title, index) => cell("th", document.createTextNode(title), index)))),
      element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((value, index) => value instanceof Node && value.tagName === "TD" ? value : cell("td", value, index)))))));
    return rows.length > MANY_ROWS ? element("details", {}, element("summary", {}, `${rows.length} rows`), whole) : whole;
  }
  function section(title, ...children) {
    page.append(element("section", {}, element("h2", {}, title), ...children));
  }

  function ticks(low, high, isLog) {
    if (isLog) {
      const found = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
        for (const step of [1, 2, 5]) if (step * 10 ** power >= low * 0.999 && step * 10 ** power <= high * 1.001) found.push(step * 10 ** power);
      return found.length > 1 ? found : [low, high];
    }
    const rough = (high - low) / 5 || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
    const found = [];
    for (let value = Math.ceil(low / step) * step; value <= high + step / 1e6; value += step) found.push(value);
    return found;
  }

  // lines(): [{run, name, points: [[x, y, label]]}] of the runs that are shown
  function chart(title, unit, xTitle, lines) {
    const box = element("div", { class: "chart", "data-chart": title });
    const log = element("input", { type: "checkbox", onchange: () => draw() });
    const controls = element("label", { class: "controls soft" }, log, " log scale");
    const plot = element("div");
    box.append(element("h3", {}, title, element("span", { class: "soft" }, unit ? `, ${unit}` : "")), controls, plot);
    const WIDTH = 480, HEIGHT = 272, LEFT = 52, BOTTOM = 40, TOP = 8, RIGHT = 8;

    function draw() {
      plot.replaceChildren();
      const all = lines().filter((line) => line.run.shown)
        .map((line) => ({ ...line, points: line.points.filter(([, y]) => isNumber(y) && (!log.checked || y > 0)) }))
        .filter((line) => line.points.length);
      if (!all.length) { plot.append(element("p", { class: "soft" }, "Nothing recorded.")); return; }
      const xs = all.flatMap((line) => line.points.map(([x]) => x)), ys = all.flatMap((line) => line.points.map(([, y]) => y));
      let [low, high] = [Math.min(...ys), Math.max(...ys)];
      if (low === high) { low = log.checked ? low / 2 : low - Math.abs(low) / 10 - 1e-9; high = log.checked ? high * 2 : high + Math.abs(high) / 10 + 1e-9; }
      const [first, last] = [Math.min(...xs), Math.max(...xs)];
      const scale = (value) => (log.checked ? Math.log10(value) : value);
      const x = (value) => (first === last ? (LEFT + WIDTH - RIGHT) / 2 : LEFT + ((value - first) / (last - first)) * (WIDTH - LEFT - RIGHT));
      const y = (value) => HEIGHT - BOTTOM - ((scale(value) - scale(low)) / (scale(high) - scale(low))) * (HEIGHT - BOTTOM - TOP);
      const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title} over ${xTitle}` });
      for (const value of ticks(low, high, log.checked)) {
        picture.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }));
        picture.append(svg("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, String(Number(value.toPrecision(4)))));
      }
      for (const value of ticks(first, last, false).filter(Number.isInteger))
        picture.append(svg("text", { x: x(value), y: HEIGHT - 24, "text-anchor": "middle" }, String(value)));
      picture.append(svg("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, xTitle));
      for (const line of all) {
        const path = line.points.map(([px, py], index) => `${index ? "L" : "M"}${x(px).toFixed(1)} ${y(py).toFixed(1)}`).join("");
        picture.append(svg("path", { d: path, fill: "none", stroke: line.run.colour, "stroke-width": 2, "stroke-dasharray": line.run.dash, class: "line", "data-run": line.run.name }));
        if (line.points.length <= 60)
          for (const [px, py] of line.points) picture.append(svg("circle", { cx: x(px), cy: y(py), r: 3, fill: line.run.colour }));
      }
      const hair = svg("line", { class: "hair", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
      picture.append(hair);
      const tip = element("div", { class: "tip", hidden: "" });
      picture.addEventListener("pointermove", (event) => {
        const frame = picture.getBoundingClientRect();
        const at = ((event.clientX - frame.left) / frame.width) * WIDTH;
        const nearest = xs.reduce((found, candidate) => (Math.abs(x(candidate) - at) < Math.abs(x(found) - at) ? candidate : found), xs[0]);
        hair.setAttribute("x1", x(nearest)); hair.setAttribute("x2", x(nearest)); hair.setAttribute("visibility", "visible");
        tip.replaceChildren(element("b", {}, `${xTitle} ${show(nearest)}`), ...all.flatMap((line) => {
          const point = line.points.find(([px]) => px === nearest);
          return point ? [element("div", {}, swatch(line.run), `${line.name}: ${show(point[1])}`)] : [];
        }));
        tip.hidden = false;
        const left = (x(nearest) / WIDTH) * frame.width;
        tip.style.left = left > frame.width / 2 ? "" : `${left + 20}px`;
        tip.style.right = left > frame.width / 2 ? `${frame.width - left + 20}px` : "";
        tip.style.top = "3.6rem";
      });
      picture.addEventListener("pointerleave", () => { tip.hidden = true; hair.setAttribute("visibility", "hidden"); });
      plot.append(picture, tip);
    }
    redraws.push(draw);
    draw();
    return box;
  }
  const overEpochs = (value) => () => runs.map((run) => ({ run, name: run.name, points: run.epochs.map((epoch) => [epoch.epoch, value(epoch)]) }));

  const overSteps = (key, factor = 1) => () => runs.map((run) => ({ run, name: run.name, points: run.history.position.map((at, index) => [at, isNumber(run.history[key][index]) ? run.history[key][index] * factor : null]) }));

  // The page
  document.getElementById("made").textContent = data.made;
  page.replaceChildren();
  for (const run of runs) for (const problem of run.problems) page.append(element("p", { class: "problem" }, `${run.name}: ${problem}`));

  const best = (run) => run.epochs.find((epoch) => epoch.epoch === run.best_epoch);
  section("Runs", table(["", "Run", "State", "Best average accuracy, %", "Epoch", "Epochs", "GPUs", "Attempts", "Time", "Created"], [...runs]
    .sort((one, other) => (best(other)?.accuracy ?? -1) - (best(one)?.accuracy ?? -1))
    .map((run) => [
      element("input", { type: "checkbox", checked: "", "aria-label": `show ${run.name}`, onchange: (event) => { run.shown = event.target.checked; redraws.forEach((draw) => draw()); } }),
      named(run), run.reason && run.state !== "succeeded" ? `${run.state}: ${run.reason}` : run.state,
      showAccuracy(best(run)?.accuracy), run.best_epoch, run.epochs.length, run.config.gpus, run.attempts.length || null,
      element("td", { class: "time" }, showDuration(run.epochs.reduce((sum, epoch) => sum + (epoch.duration_sec ?? 0), 0) || null)), timeCell(run.created),
    ]), [3, 4, 5, 6, 7]));

  const heads = [...new Set(runs.flatMap((run) => run.epochs.flatMap((epoch) => epoch.heads.map((head) => head.label))))];
  const ofHead = (epoch, label, key) => epoch.heads.find((head) => head.label === label)?.[key];
  section("Curves", element("div", { class: "charts" },
    chart("Average accuracy", "%", "epoch", overEpochs((epoch) => epoch.accuracy)),
    chart("Total validation loss", "", "epoch", overEpochs((epoch) => epoch.loss)),
    ...(heads.length > 1 ? heads.flatMap((label) => [
      chart(`Accuracy of ${label}`, "%", "epoch", overEpochs((epoch) => ofHead(epoch, label, "accuracy"))),
      chart(`Loss of ${label}`, "", "epoch", overEpochs((epoch) => ofHead(epoch, label, "loss"))),
    ]) : []),
    chart("Training loss", "rank 0", "epochs trained", overSteps("loss")),
    chart("Learning rate of the heads", "", "epochs trained", overSteps("head_lr")),
    chart("Learning rate of the encoder", "", "epochs trained", overSteps("backbone_lr")),
    chart("Training speed", "clips/s, all ranks", "epochs trained", overSteps("clips_per_sec")),
    chart("Data wait", "%", "epochs trained", overSteps("data_wait_share", 100)),
    chart("Gradient norm", "", "epochs trained", overSteps("gradient_norm")),
    chart("Time of an epoch", "min", "epoch", overEpochs((epoch) => (isNumber(epoch.duration_sec) ? epoch.duration_sec / 60 : null)))));

  const different = Object.entries(data.differences);
  if (runs.length > 1)
    section("Differences in configuration", different.length
      ? table(["Setting", ...runs.map((run) => run.name)], different.map(([key, values]) => [key, ...values]))
      : element("p", { class: "soft" }, "Only names and stores."));

  const withClasses = runs.filter((run) => run.classes.length);
  if (withClasses.length) {
    const choice = element("select", { "aria-label": "run and head", onchange: () => drawClasses() });
    for (const run of withClasses) for (const head of run.classes) choice.append(element("option", {}, `${run.name}: ${head.label}`));
    const options = withClasses.flatMap((run) => run.classes.map((head) => [run, head]));
    const place = element("div");
    const drawClasses = () => {
      const [run, head] = options[choice.selectedIndex];
      const rows = head.rows.filter((row) => row.clips).sort((one, other) => one.correct / one.clips - other.correct / other.clips);
      place.replaceChildren(element("p", { class: "soft" }, `Epoch ${run.best_epoch}, weakest classes first; clips of the validation.`),
        table(["Class", "Clips", "Accuracy, %", "Most often confused with"], rows.map((row) => {
          const accuracy = (100 * row.correct) / row.clips;
          const wrong = Object.entries(row.predicted).filter(([label]) => label !== row.label).slice(0, 3);
          return [row.label, row.clips, element("td", { class: "bar" }, element("i", { style: `width:${accuracy}%` }), element("span", {}, accuracy.toFixed(1))),
            wrong.map(([label, clips]) => `${label} (${clips})`).join(", ") || "–"];
        }), [1]), ...(head.rows.length <= 60 ? [matrix(head)] : []));
    };
    section("Classes in the best epochs", choice, place);
    drawClasses();
  }
  function matrix(head) {
    const labels = head.rows.map((row) => row.label);
    return element("div", { class: "scroll" }, element("h3", { style: "margin-top:1rem" }, "Confusion matrix: rows are true classes, columns are predicted classes"),
      element("table", { class: "matrix" }, element("tbody", {}, ...head.rows.map((row) => element("tr", {}, element("th", {}, row.label),
        ...labels.map((label) => {
          const share = row.clips ? (row.predicted[label] ?? 0) / row.clips : 0;
          return element("td", { title: `${row.label} predicted as ${label}: ${row.predicted[label] ?? 0} of ${row.clips}`, style: `background:color-mix(in srgb, ${label === row.label ? "#0072b2" : "#d55e00"} ${(100 * share).toFixed(0)}%, var(--panel))` });
        }))))));
  }

  const timed = runs.filter((run) => run.attempts.some((attempt) => isTime(attempt.started)));
  if (timed.length) {
    section("Attempts and interruptions", timeLine(timed), table(["Run", "Attempt", "Ranks", "First line", "Last line", "Lasted", "Started at epoch", "Epochs finished", "Ended by"],
      timed.flatMap((run) => run.attempts.map((attempt, index) => [named(run), attempt.attempt, attempt.ranks, timeCell(attempt.started), timeCell(attempt.ended),
        element("td", { class: "time" }, attempt.started && attempt.ended ? showDuration(Math.max(0, Date.parse(attempt.ended) - Date.parse(attempt.started)) / 1000) : "–"), attempt.resumed,
        finishedIn(run, index).map((epoch) => epoch.epoch).join(", ") || "–", element("td", { class: "words" }, attempt.reason ?? "–")])), [1, 2, 6]));
  }
  // An epoch belongs to the last attempt that had begun when it ended.
  function finishedIn(run, index) {
    const from = Date.parse(run.attempts[index].started), next = run.attempts.slice(index + 1).find((attempt) => attempt.started);
    return run.epochs.filter((epoch) => epoch.ended && Date.parse(epoch.ended) >= from && (!next || Date.parse(epoch.ended) < Date.parse(next.started)));
  }
  // One line a run over the time since it was created: attempts as bars, what is between them hatched, epochs as marks.
  function timeLine(shown) {
    const WIDTH = 1000, HEIGHT = 30;
    const spans = shown.map((run) => {
      const times = run.attempts.flatMap((attempt) => [attempt.started, attempt.ended]).concat(run.created ?? []).filter(isTime).map((text) => Date.parse(text));
      return [Math.min(...times), Math.max(...times)];
    });
    const longest = Math.max(...spans.map(([first, last]) => last - first), 1000);
    const box = element("div", { class: "timeline", "data-chart": "Attempts" });
    const tip = element("div", { class: "tip", hidden: "" });
    const explain = (node, title, ...lines) => {
      node.append(svg("title", {}, [title, ...lines].join("\n")));
      node.addEventListener("pointermove", (event) => {
        const frame = box.getBoundingClientRect(), left = event.clientX - frame.left;
        tip.replaceChildren(element("b", {}, title), ...lines.map((line) => element("div", {}, line)));
        tip.hidden = false;
        tip.style.left = left > frame.width / 2 ? "" : `${left + 14}px`;
        tip.style.right = left > frame.width / 2 ? `${frame.width - left + 14}px` : "";
        tip.style.top = `${event.clientY - frame.top + 14}px`;
      });
      node.addEventListener("pointerleave", () => { tip.hidden = true; });
    };
    shown.forEach((run, number) => {
      const [origin] = spans[number];
      const x = (time) => ((Date.parse(time) - origin) / longest) * WIDTH;
      const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `attempts of ${run.name}` });
      const pattern = svg("pattern", { id: `hatch-${number}`, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
      pattern.append(svg("rect", { width: 2, height: 6, class: "hatch" }));
      picture.append(pattern, svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT / 2, y2: HEIGHT / 2, "vector-effect": "non-scaling-stroke" }));
      let reached = 0, before = null;
      const known = run.attempts.filter((attempt) => isTime(attempt.started));
      for (const attempt of known) {
        const left = Math.max(x(attempt.started), reached), right = Math.max(attempt.ended ? x(attempt.ended) : left, left + 2);
        if (left - reached > 1) {
          const gap = svg("rect", { class: "gap", x: reached, width: left - reached, y: 6, height: HEIGHT - 12, fill: `url(#hatch-${number})` });
          const lasted = showDuration(((left - reached) / WIDTH) * longest / 1000);
          explain(gap, before ? `interrupted for ${lasted}` : `waited ${lasted} to begin`, ...(before?.reason ? [before.reason] : []));
          picture.append(gap);
        }
        const bar = svg("rect", { class: "attempt", x: left, width: right - left, y: 4, height: HEIGHT - 8, rx: 2, fill: run.colour, "data-attempt": attempt.attempt, "data-run": run.name });
        explain(bar, `${run.name}, attempt ${attempt.attempt}`, `${showTime(attempt.started)} to ${showTime(attempt.ended)}`, `${attempt.ranks} rank${attempt.ranks === 1 ? "" : "s"}`,
          ...(isNumber(attempt.resumed) ? [`began at epoch ${show(attempt.resumed)}`] : []), ...Object.entries(attempt.changed ?? {}).map(([name, text]) => `${name}: ${text}`), ...(attempt.reason ? [attempt.reason] : []));
        picture.append(bar);
        reached = right; before = attempt;
      }
      for (const epoch of run.epochs.filter((item) => isTime(item.ended))) {
        const at = Math.min(Math.max(x(epoch.ended), 0), WIDTH), isBest = epoch.epoch === run.best_epoch;
        const mark = svg("line", { class: isBest ? "mark best" : "mark", x1: at, x2: at, y1: isBest ? 0 : 4, y2: isBest ? HEIGHT : HEIGHT - 4, "vector-effect": "non-scaling-stroke", "data-epoch": epoch.epoch });
        explain(mark, `epoch ${epoch.epoch} finished${isBest ? ", the best" : ""}`, showTime(epoch.ended), `average accuracy ${show(epoch.accuracy)} %`);
        picture.append(mark);
      }
      if (known.length && run.state === "failed") picture.append(svg("line", { class: "failed", x1: reached, x2: reached, y1: 0, y2: HEIGHT, "vector-effect": "non-scaling-stroke" }));
      const total = showDuration((spans[number][1] - origin) / 1000), stops = known.length - 1;
      box.append(element("div", { class: "lane" }, element("div", {}, named(run), element("span", { class: "soft" }, ` ${run.state}; ${total} from ${showTime(new Date(origin).toISOString())}${stops > 0 ? `; interrupted ${stops === 1 ? "once" : `${stops} times`}` : ""}`)), picture));
    });
    const axis = element("div", { class: "axis soft" });
    const unit = longest > 36 * 3600e3 ? [86400e3, "d"] : longest > 90 * 60e3 ? [3600e3, "h"] : longest > 90e3 ? [60e3, "min"] : [1e3, "s"];
    for (const value of ticks(0, longest / unit[0], false)) axis.append(element("span", { style: `left:${(100 * value * unit[0]) / longest}%` }, `${Number(value.toPrecision(4))} ${unit[1]}`));
    box.append(axis, element("p", { class: "soft" }, "Bars are attempts, hatched gaps are interruptions (before the first bar: waiting); lines mark finished epochs, the long one the best; red: the run failed. Time since each run was created."), tip);
    return box;
  }

  section("Checkpoints", table(["Run", "Epoch", "Size", "Address", "SHA-256"], runs.flatMap((run) => run.epochs.map((epoch) => [
    named(run), epoch.epoch === run.best_epoch ? element("b", {}, `${epoch.epoch}, best`) : epoch.epoch, showSize(epoch.size_bytes),
    element("td", { class: "digest" }, epoch.checkpoint), element("td", { class: "digest" }, epoch.sha256 ?? "–")]))));

  const facts = (key, called = (name) => name.replaceAll("_", " "), shorten = (value) => value) => [...new Set(runs.flatMap((run) => Object.keys(run[key] ?? {})))]
    .map((name) => [called(name), ...runs.map((run) => (run[key]?.[name] === undefined ? null : shorten(run[key][name])))]);
  section("Environment", element("div", { class: "wrapped" }, table(["", ...runs.map((run) => run.name)], [
    ...facts("versions"), ...facts("machine"),
    ...(runs.some((run) => run.images.length) ? [["image of the pods", ...runs.map((run) => run.images.join(", then ") || null)]] : []),
    ...facts("effective"), ["seed", ...runs.map((run) => run.config.seed)], ["store", ...runs.map((run) => run.address)],
  ])));
  if (runs.some((run) => Object.keys(run.digests).length))
    section("Data and weights", table(["SHA-256 of", ...runs.map((run) => run.name)], facts("digests", (file) => file, (value) => element("td", { class: "digest", title: value }, value.slice(0, 16)))));
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((folded) => { folded.open = true; }));
})();
