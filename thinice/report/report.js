"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $$ = (id) => document.getElementById(id);
  const plot = $$("plot"), points = $$("points"), marks = $$("marks"), tip = $$("tip"), card = $$("card");
  const KEYS = ["kept", "lost", "gained", "wrong"];
  const ON_TOP = [0, 3, 2, 1]; // lost samples are drawn last
  const REACH = 14, CELL = 16; // pixels: how far the pointer finds a sample; the side of a cell of the grid
  const FONT = "12px system-ui, sans-serif";
  const MARGIN = { left: 62, right: 14, top: 56, bottom: 46, away: 20 };

  // One comparison at a time: its columns, the axes there are, and what is chosen.
  let now, axes, axis, order, shown, hovered = -1, chosen = -1;
  let x, y, grid, view; // where samples stand, by row; rows by cell of the grid; scales of the axes

  function open(place) {
    const compared = data.comparisons[place], measured = data.measured[compared.measured];
    now = { compared, measured, samples: data.data[measured.data], transitions: [...compared.transitions].map(Number) };
    for (const part of document.querySelectorAll("[data-comparison]")) {
      part.hidden = !part.dataset.comparison.split(" ").includes(String(place));
    }
    axes = [
      { name: "true class", kind: "class", values: now.samples.labels },
      { name: "sample", meaning: "Index in the untouched data set.", values: now.samples.ids },
      ...measured.axes, ...compared.axes,
    ];
    fill($$("axis"), axes.map((one) => one.name));
    fill($$("class"), ["all", ...now.samples.classes]);
    const found = measured.epsilon.filter((value) => value > 0).sort((a, b) => a - b);
    $$("logarithmic").checked = found.length > 0 && 50 * found[found.length >> 1] < found[found.length - 1];
    chosen = hovered = -1;
    card.replaceChildren(text("p", "Choose a sample."));
    for (const canvas of document.querySelectorAll(`[data-comparison="${place}"] .picture canvas`)) {
      picture(canvas, Number(canvas.dataset.row));
    }
    filter();
  }

  function fill(select, names) {
    select.replaceChildren(...names.map((name, place) => {
      const option = text("option", name);
      option.value = place;
      return option;
    }));
  }

  function text(tag, content) {
    const element = document.createElement(tag);
    element.textContent = content;
    return element;
  }

  // What is shown: rows in the order of epsilon, then those that were not found, then those wrong from the start.
  function filter() {
    const wanted = new Set([...document.querySelectorAll("[name=transition]:checked")].map((box) => Number(box.value)));
    const only = Number($$("class").value) - 1;
    const counts = [0, 0, 0, 0];
    axis = axes[Number($$("axis").value)];
    order = [];
    shown = new Uint8Array(now.transitions.length);
    let without = 0;
    for (let row = 0; row < now.transitions.length; row++) {
      const transition = now.transitions[row];
      if (Number.isNaN(transition) || (only >= 0 && now.samples.labels[row] !== only)) continue;
      counts[transition]++;
      if (!wanted.has(transition)) continue;
      if (axis.values[row] === null) without++;
      else { order.push(row); shown[row] = 1; }
    }
    const epsilon = now.measured.epsilon;
    const far = (row) => (now.measured.outcomes[row] === 0 ? Infinity : epsilon[row] ?? Number.MAX_VALUE);
    order.sort((a, b) => (far(a) === far(b) ? a - b : far(a) - far(b)));
    counts.forEach((count, k) => { $$(`count-${k}`).textContent = count.toLocaleString("en"); });
    $$("status").textContent = `${order.length.toLocaleString("en")} of ${now.samples.n.toLocaleString("en")}`
      + ` samples shown${without ? `; ${without.toLocaleString("en")} have no ${axis.name}` : ""}.`;
    $$("axis").title = axis.meaning ?? "";
    plot.setAttribute("aria-label", `Epsilon against ${axis.name} of ${order.length} samples`);
    draw();
  }

  // Scales and ticks.
  function ticks(low, high, most) {
    const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((k) => k * power).find((one) => one >= rough);
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(Number((k * step).toPrecision(6)));
    return found;
  }

  function decades(low, high) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
      for (const k of [1, 2, 5]) if (k * 10 ** power >= low && k * 10 ** power <= high) found.push(Number((k * 10 ** power).toPrecision(3)));
    }
    return found.length < 10 ? found : found.filter((one) => /^[^2-9]*$/.test(String(one)));
  }

  function scales() {
    const width = plot.clientWidth, height = plot.clientHeight;
    const left = MARGIN.left, right = width - MARGIN.right, top = MARGIN.top, bottom = height - MARGIN.bottom;
    const epsilon = order.map((row) => now.measured.epsilon[row]).filter((value) => value !== null);
    const positive = epsilon.filter((value) => value > 0); // ascending, for the order is
    const high = positive.length ? positive[positive.length - 1] : 1;
    const logarithmic = $$("logarithmic").checked && positive.length > 0;
    const low = logarithmic ? positive[0] : 0;
    const lift = logarithmic && positive.length < epsilon.length ? 18 : 0; // a line for epsilon 0 below the logarithm
    const share = logarithmic
      ? (value) => Math.log(value / low) / (Math.log(high / low) || 1)
      : (value) => value / (high * 1.02);
    const up = (value) => (value === null ? top - MARGIN.away : value === 0 ? bottom : bottom - lift - share(value) * (bottom - lift - top));
    let across, columns;
    if (axis.kind === "class") {
      const only = Number($$("class").value) - 1, count = only >= 0 ? 1 : now.samples.classes.length;
      across = (value, row) => left + ((only >= 0 ? 0 : value) + 0.5 + 0.8 * scatter(row)) / count * (right - left);
      const pen = points.getContext("2d");
      pen.font = FONT;
      const widest = Math.max(...now.samples.classes.slice(0, 2000).map((name) => pen.measureText(name).width));
      const each = Math.max(1, Math.ceil(count * Math.min(110, widest + 10) / (right - left)));
      columns = [...Array(count).keys()].filter((k) => k % each === 0).map((k) => ({
        at: left + (k + 0.5) / count * (right - left), name: now.samples.classes[only >= 0 ? only : k],
      }));
    } else {
      let from = Infinity, to = -Infinity;
      for (const row of order) { from = Math.min(from, axis.values[row]); to = Math.max(to, axis.values[row]); }
      if (!(from < to)) { from -= 0.5; to += 0.5; }
      if (!Number.isFinite(from)) { from = 0; to = 1; }
      const room = 0.015 * (to - from);
      across = (value) => left + (value - from + room) / (to - from + 2 * room) * (right - left);
      columns = ticks(from, to, (right - left) / 90).map((value) => ({ at: across(value), name: value.toLocaleString("en") }));
    }
    const rows = (logarithmic ? decades(low, high) : ticks(0, high, (bottom - top) / 50)).map((value) => ({ at: up(value), name: String(value) }));
    if (lift) rows.push({ at: bottom, name: "0" });
    if (order.some((row) => now.measured.epsilon[row] === null)) rows.push({ at: top - MARGIN.away, name: "not found" });
    return { width, height, left, right, top, bottom, across, up, rows, columns };
  }

  function axisText() {
    return axis.suffix ? `${axis.name} (n${axis.suffix})` : axis.name;
  }

  // From -0.5 to 0.5, the same for a row at all times.
  function scatter(row) {
    let bits = Math.imul(row + 1, 0x9e3779b1);
    bits = Math.imul(bits ^ (bits >>> 15), 0x85ebca77);
    return ((bits ^ (bits >>> 13)) >>> 0) / 2 ** 32 - 0.5;
  }

  function sized(canvas, width, height) {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    return pen;
  }

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function shape(pen, transition, cx, cy, size) {
    pen.beginPath();
    if (transition === 0) pen.arc(cx, cy, size, 0, 7);
    else if (transition === 1) {
      pen.moveTo(cx, cy - 1.4 * size); pen.lineTo(cx + 1.4 * size, cy); pen.lineTo(cx, cy + 1.4 * size); pen.lineTo(cx - 1.4 * size, cy);
    } else if (transition === 2) {
      pen.moveTo(cx, cy - 1.3 * size); pen.lineTo(cx + 1.2 * size, cy + size); pen.lineTo(cx - 1.2 * size, cy + size);
    } else pen.rect(cx - size, cy - size, 2 * size, 2 * size);
    pen.closePath();
  }

  function draw() {
    view = scales();
    const pen = sized(points, view.width, view.height);
    pen.font = FONT;
    pen.lineWidth = 1;
    pen.strokeStyle = color("--line");
    pen.fillStyle = color("--muted");
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    for (const { at, name } of view.rows) {
      pen.globalAlpha = 0.6;
      line(pen, view.left, at, view.right, at);
      pen.globalAlpha = 1;
      pen.fillText(name, view.left - 6, at, view.left - 8);
    }
    pen.textAlign = "center";
    const room = view.columns.length > 1 ? view.columns[1].at - view.columns[0].at - 8 : 400;
    for (const { at, name } of view.columns) {
      const short = clipped(pen, name, room), half = pen.measureText(short).width / 2 + 4;
      pen.fillText(short, Math.max(half, Math.min(view.width - half, at)), view.bottom + 16);
    }
    pen.fillStyle = color("--ink");
    pen.fillText(clipped(pen, axisText(), view.right - view.left), (view.left + view.right) / 2, view.height - 10);
    pen.textAlign = "left";
    pen.fillText(now.measured.label, 8, 14);
    const size = order.length < 1500 ? 3.6 : 2.4;
    const stamps = KEYS.map((key, transition) => {
      const stamp = document.createElement("canvas");
      const ink = sized(stamp, 16, 16);
      ink.fillStyle = color(`--${key}`);
      shape(ink, transition, 8, 8, size);
      ink.fill();
      return stamp;
    });
    x = new Float32Array(now.transitions.length);
    y = new Float32Array(now.transitions.length);
    grid = new Map();
    for (const transition of ON_TOP) {
      pen.globalAlpha = transition === 0 ? 0.7 : 0.95;
      for (const row of order) {
        if (now.transitions[row] !== transition) continue;
        x[row] = view.across(axis.values[row], row);
        y[row] = view.up(now.measured.epsilon[row]);
        pen.drawImage(stamps[transition], x[row] - 8, y[row] - 8, 16, 16);
        const cell = Math.floor(x[row] / CELL) + 4096 * Math.floor(y[row] / CELL);
        if (!grid.has(cell)) grid.set(cell, []);
        grid.get(cell).push(row);
      }
    }
    pen.globalAlpha = 1;
    if (!order.length) { pen.textAlign = "center"; pen.fillText("No sample passes the filters.", view.width / 2, view.height / 2); }
    mark();
  }

  function line(pen, x0, y0, x1, y1) {
    pen.beginPath();
    pen.moveTo(x0, y0);
    pen.lineTo(x1, y1);
    pen.stroke();
  }

  function clipped(pen, name, room) {
    let short = name;
    while (short.length > 1 && pen.measureText(short).width > room) short = `${short.slice(0, -2).trimEnd()}…`;
    return short;
  }

  // The hovered and the chosen sample, on a sheet of their own, so that the points stay as they are.
  function mark() {
    const pen = sized(marks, view.width, view.height);
    for (const [row, width] of [[hovered, 1.5], [chosen, 2.5]]) {
      if (row < 0 || !shown[row]) continue;
      pen.lineWidth = width;
      pen.strokeStyle = color("--ink");
      pen.beginPath();
      pen.arc(x[row], y[row], 8, 0, 7);
      pen.stroke();
    }
  }

  function near(px, py) {
    let best = -1, least = REACH * REACH;
    const span = Math.ceil(REACH / CELL), column = Math.floor(px / CELL), line = Math.floor(py / CELL);
    for (let i = column - span; i <= column + span; i++) {
      for (let j = line - span; j <= line + span; j++) {
        for (const row of grid.get(i + 4096 * j) || []) {
          const away = (x[row] - px) ** 2 + (y[row] - py) ** 2;
          if (away < least || (away === least && row > best)) { best = row; least = away; }
        }
      }
    }
    return best;
  }

  // Pictures out of the sheets.
  function cell(canvas, sheet, place, part) {
    const image = $$(sheet.image), column = place % sheet.columns, row = Math.floor(place / sheet.columns);
    canvas.width = sheet.width;
    canvas.height = sheet.height;
    canvas.getContext("2d").drawImage(image, (column * sheet.parts.length + part) * sheet.width, row * sheet.height,
      sheet.width, sheet.height, 0, 0, sheet.width, sheet.height);
  }

  function picture(canvas, row) {
    const { sheet, cells } = now.samples, place = cells ? cells[row] : row;
    canvas.hidden = !sheet || place < 0;
    if (!canvas.hidden) cell(canvas, sheet, place, 0);
    return !canvas.hidden;
  }

  const named = (k) => (k < 0 ? "—" : now.samples.classes[k] ?? String(k));

  function epsilonText(row) {
    const value = now.measured.epsilon[row];
    if (value === 0) return "0: wrong without any change";
    if (value === null) return now.measured.outcomes[row] < 0 ? "not measured yet" : "not found";
    return `${Number(value.toPrecision(3))}${now.measured.suffix}`;
  }

  // What was found, and what was proved: rounded down, so that it stays true.
  function intervalText(row) {
    const low = now.measured.lower ? now.measured.lower[row] : null;
    if (!low) return epsilonText(row);
    const digit = 10 ** (Math.floor(Math.log10(low)) - 2);
    return `${epsilonText(row)}; proved: more than ${Number((Math.floor(low / digit) * digit).toPrecision(3))}${now.measured.suffix}`;
  }

  function transitionText(row) {
    const { name, word } = data.transitions[now.transitions[row]];
    return `${name} ${word}`;
  }

  function hover(row, px, py) {
    if (row === hovered && row < 0) return;
    const changed = row !== hovered;
    hovered = row;
    tip.hidden = row < 0;
    if (changed) mark();
    if (row < 0) return;
    if (changed) {
      picture(tip.firstChild, row);
      tip.lastChild.textContent = `sample ${now.samples.ids[row]}: ${named(now.samples.labels[row])}\n`
        + `ε ${epsilonText(row)}\n${transitionText(row)}`;
    }
    tip.style.left = `${Math.min(px + 14, view.width - tip.offsetWidth - 2)}px`;
    tip.style.top = `${py + 14 + tip.offsetHeight > view.height ? py - 14 - tip.offsetHeight : py + 14}px`;
  }

  function choose(row) {
    chosen = row;
    mark();
    if (row < 0) return;
    const { samples, measured, compared } = now;
    const pictures = document.createElement("div");
    pictures.className = "pictures";
    const add = (name, paint) => {
      const box = document.createElement("div"), canvas = document.createElement("canvas");
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${name}, sample ${samples.ids[row]}`);
      if (paint(canvas) === false) return;
      box.append(canvas, Object.assign(text("div", name), { className: "small" }));
      pictures.append(box);
    };
    const close = measured.close ? measured.closeRows.indexOf(row) : -1;
    if (close < 0 || measured.close.parts[0] !== "clean") add("clean", (canvas) => picture(canvas, row));
    if (close >= 0) {
      measured.close.parts.forEach((part, k) => {
        const times = part === "change" ? ` × ${Number(measured.amplification[close].toPrecision(3))}` : "";
        add(part + times, (canvas) => cell(canvas, measured.close, close, k));
      });
    }
    const facts = document.createElement("dl");
    const rows = [
      ["true class", named(samples.labels[row])],
      [measured.dense, named(measured.predictions[row])],
      [compared.pruned, named(compared.predictions[row])],
      ["transition", transitionText(row)],
      ["ε", intervalText(row)],
      ...(measured.outcomes[row] === 1 ? [["beyond the boundary", named(measured.far[row])]] : []),
      ...axes.slice(2).filter((one) => one.values[row] !== null).map((one) => [one.name, `${one.values[row]}${one.suffix}`]),
      ...(samples.sources ? [["file", samples.sources[row]]] : []),
    ];
    for (const [name, value] of rows) facts.append(text("dt", name), text("dd", value));
    card.replaceChildren(text("h3", `Sample ${samples.ids[row]}`), ...(pictures.childNodes.length ? [pictures] : []), facts);
  }

  // Pointer, keyboard, controls.
  function at(event) {
    const box = plot.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }
  plot.addEventListener("pointermove", (event) => { const [px, py] = at(event); hover(near(px, py), px, py); });
  plot.addEventListener("pointerleave", () => hover(-1));
  plot.addEventListener("click", (event) => { const row = near(...at(event)); if (row >= 0) choose(row); });
  plot.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 25, PageUp: -25, Home: -Infinity, End: Infinity };
    if (!(event.key in steps) || !order.length) return;
    event.preventDefault();
    const place = chosen < 0 || !shown[chosen] ? (steps[event.key] === Infinity ? Infinity : 0) : order.indexOf(chosen) + steps[event.key];
    choose(order[Math.max(0, Math.min(order.length - 1, place))]);
  });
  document.querySelector(".nearest").addEventListener("click", (event) => {
    if (event.target.dataset.row && event.target.tagName === "BUTTON") choose(Number(event.target.dataset.row));
  });
  document.querySelector(".controls").addEventListener("change", filter);
  document.querySelector(".controls").addEventListener("submit", (event) => event.preventDefault());
  $$("comparison").addEventListener("change", (event) => open(Number(event.target.value)));
  new ResizeObserver(() => { if (now) draw(); }).observe(plot);

  // Light and dark: as the system has it, until the button says otherwise.
  const system = matchMedia("(prefers-color-scheme: dark)");
  function dress(dark) {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    $$("theme").textContent = dark ? "Light" : "Dark";
    if (now) draw();
  }
  dress(system.matches);
  system.addEventListener("change", (event) => dress(event.matches));
  $$("theme").addEventListener("click", () => dress(document.documentElement.dataset.theme !== "dark"));

  const sheets = [...document.querySelectorAll("img[id^=sheet-]")];
  Promise.all(sheets.map((image) => image.decode())).then(() => {
    open(0);
    window.thinice = { place: (row) => [x[row], y[row]], shown: () => order.slice() }; // for scripts and tests
  });
})();
