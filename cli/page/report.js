"use strict";
// Draws the page from the JSON beside it. No library: lines over epochs, tables, and a matrix are all there is.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const page = document.getElementById("page");
  // Okabe and Ito's colours, told apart by colour-blind readers, on light and dark ground.
  const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#b8a000", "#7f7f7f"];
  const runs = data.runs.map((run, index) => ({ ...run, colour: COLOURS[index % COLOURS.length], dash: index < COLOURS.length ? "" : "6 3", shown: true }));
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
  const showTime = (text) => (text ? new Date(text).toISOString().replace("T", " ").slice(0, 16) + " UTC" : "–");
  function showDuration(seconds) {
    if (!isNumber(seconds)) return "–";
    const minutes = Math.round(seconds / 60);
    return seconds < 90 ? `${Math.round(seconds)} s` : minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  }
  const showSize = (bytes) => (isNumber(bytes) ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : "–");
  const swatch = (run) => element("span", { class: "swatch", style: `background:${run.colour}` });
  const named = (run) => element("span", { class: "name" }, swatch(run), run.name);
  function table(titles, rows, numbers = []) {
    const cell = (tag, value, index) => element(tag, { class: numbers.includes(index) ? "number" : null }, value instanceof Node ? value : show(value));
    return element("div", { class: "scroll" }, element("table", {},
      element("thead", {}, element("tr", {}, ...titles.map((title, index) => cell("th", document.createTextNode(title), index)))),
      element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((value, index) => value instanceof Node && value.tagName === "TD" ? value : cell("td", value, index)))))));
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
      best(run)?.accuracy, run.best_epoch, run.epochs.length, run.config.gpus, run.attempts.length || null,
      showDuration(run.epochs.reduce((sum, epoch) => sum + (epoch.duration_sec ?? 0), 0) || null), showTime(run.created),
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
    section("What differs in the configurations", different.length
      ? table(["Setting", ...runs.map((run) => run.name)], different.map(([key, values]) => [key, ...values]))
      : element("p", { class: "soft" }, "Nothing but names and stores."));

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
        table(["Class", "Clips", "Accuracy, %", "Mostly taken for"], rows.map((row) => {
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
    return element("div", { class: "scroll" }, element("h3", { style: "margin-top:1rem" }, "Confusion: a row is a true class, a column what it was taken for"),
      element("table", { class: "matrix" }, element("tbody", {}, ...head.rows.map((row) => element("tr", {}, element("th", {}, row.label),
        ...labels.map((label) => {
          const share = row.clips ? (row.predicted[label] ?? 0) / row.clips : 0;
          return element("td", { title: `${row.label} taken for ${label}: ${row.predicted[label] ?? 0} of ${row.clips}`, style: `background:color-mix(in srgb, ${label === row.label ? "#0072b2" : "#d55e00"} ${(100 * share).toFixed(0)}%, var(--panel))` });
        }))))));
  }

  const timed = runs.filter((run) => run.attempts.some((attempt) => attempt.started));
  if (timed.length)
    section("Attempts and interruptions", table(["Run", "Attempt", "Ranks", "First line", "Last line", "Lasted", "Epochs finished"], timed.flatMap((run) => run.attempts.map((attempt) => {
      const inside = run.epochs.filter((epoch) => epoch.ended && attempt.started && attempt.ended && epoch.ended >= attempt.started.slice(0, 19) && Date.parse(epoch.ended) <= Date.parse(attempt.ended) + 60000);
      return [named(run), attempt.attempt, attempt.ranks, showTime(attempt.started), showTime(attempt.ended),
        attempt.started && attempt.ended ? showDuration((Date.parse(attempt.ended) - Date.parse(attempt.started)) / 1000) : "–", inside.map((epoch) => epoch.epoch).join(", ") || "–"];
    })), [1, 2]));

  section("Checkpoints", table(["Run", "Epoch", "Size", "Address", "SHA-256"], runs.flatMap((run) => run.epochs.map((epoch) => [
    named(run), epoch.epoch === run.best_epoch ? element("b", {}, `${epoch.epoch}, best`) : epoch.epoch, showSize(epoch.size_bytes),
    element("td", { class: "digest" }, epoch.checkpoint), element("td", { class: "digest" }, epoch.sha256 ?? "–")]))));

  section("Environment", table(["", ...runs.map((run) => run.name)], [
    ...[...new Set(runs.flatMap((run) => Object.keys(run.versions)))].map((key) => [key, ...runs.map((run) => run.versions[key])]),
    ...[...new Set(runs.flatMap((run) => Object.keys(run.effective ?? {})))].map((key) => [key.replaceAll("_", " "), ...runs.map((run) => run.effective?.[key])]),
    ["data digest", ...runs.map((run) => (run.data_digest ? run.data_digest.slice(0, 16) : null))],
    ["store", ...runs.map((run) => run.address)],
  ]));
})();
