"use strict";
(() => {
  const data = JSON.parse(document.getElementById("payload").textContent);
  // Columns are packed: see payload.py.
  const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0)).buffer;
  const column = (packed, count) => {
    if ("f32" in packed) return Array.from(new Float32Array(bytes(packed.f32)), value => Number.isNaN(value) ? null : Number(value.toPrecision(7)));
    if ("text" in packed) return Array.from({ length: count }, (_, i) => packed.text.substr(i * packed.width, packed.width));
    return Array.from(new { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array }[packed.size](bytes(packed.at)), at => packed.of[at]);
  };
  const unpack = ({ count, columns }) => {
    const rows = Array.from({ length: count }, () => ({}));
    for (const [name, packed] of Object.entries(columns)) column(packed, count).forEach((value, i) => { rows[i][name] = value; });
    return rows;
  };
  const board = unpack(data.board), scopes = unpack(data.scopes);
  board.forEach(r => { r.trials = []; });
  for (const trial of unpack(data.trials)) board[trial.row].trials.push(trial);
  const style = new Map(data.styles.map(s => [s.label, s]));
  const hidden = new Set();
  const $ = id => document.getElementById(id);
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) name in element ? (element[name] = value) : element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  // Filters: "" means every value for the table, and the average over all of them for the charts.
  const choices = { task: [...new Set(board.map(r => r.task))], model: [...new Set(board.map(r => r.model))],
    ratio: [...new Set(board.map(r => r.ratio))].sort((a, b) => a - b).map(String), lr: [...new Set(board.map(r => r.lr).filter(v => v !== null))].sort((a, b) => a - b).map(String) };
  for (const [name, values] of Object.entries(choices)) {
    const select = $(name);
    if (values.length > 1) select.append(make("option", { value: "", textContent: "All" }));
    for (const value of values) select.append(make("option", { value, textContent: name === "ratio" ? value + " %" : name === "lr" && Number(value) < 0.01 ? Number(value).toExponential() : value }));
    select.addEventListener("change", update);
    if (values.length < 2 && name === "lr") select.parentElement.remove();
  }
  const chosen = name => ($(name) ? $(name).value : "");
  const glyph = s => {
    const points = { circle: "<circle cx='11' cy='6' r='4'/>", square: "<rect x='7' y='2' width='8' height='8'/>", "triangle-up": "<path d='M11 1.5l5 9h-10z'/>", "triangle-down": "<path d='M11 10.5l5-9h-10z'/>",
      diamond: "<path d='M11 .5l5 5.5-5 5.5-5-5.5z'/>", cross: "<path d='M9.3 1.5h3.4v2.8h2.8v3.4h-2.8v2.8H9.3V7.7H6.5V4.3h2.8z'/>" };
    return `<svg viewBox="0 0 22 12" aria-hidden="true" fill="${s.colour}" stroke="none"><path d="M0 6h22" stroke="${s.colour}" stroke-width="2" stroke-dasharray="${s.dash.join(" ")}"/>${points[s.shape] || ""}</svg>`;
  };
  for (const s of data.styles) {
    const chip = make("button", { className: "chip", type: "button", ariaPressed: "true", title: "Click to hide or show; double-click to see it alone" });
    chip.innerHTML = glyph(s);
    chip.append(s.name = make("span", { textContent: s.label }));
    chip.addEventListener("click", () => { hidden.has(s.label) ? hidden.delete(s.label) : hidden.add(s.label); update(); });
    chip.addEventListener("dblclick", () => { const others = data.styles.filter(o => o !== s && !o.control).map(o => o.label); const alone = others.every(o => hidden.has(o)); hidden.clear(); if (!alone) others.forEach(o => hidden.add(o)); update(); });
    s.chip = chip;
    $("methods").append(chip);
  }

  // Marks: what holds in one of several cells is told.
  const signs = Object.values(data.marks).map(mark => mark.symbol);
  const together = texts => signs.filter(symbol => texts.some(text => text && text.includes(symbol))).join("");
  const legend = text => Object.values(data.marks).filter(mark => text.includes(mark.symbol)).map(mark => mark.symbol + " " + mark.name + ": " + mark.words).join("; ");
  const has = (names, name) => names.split(", ").includes(name);
  const symbol = name => data.marks[name].symbol;
  const ofName = r => (r.control ? symbol("control") : "") + (r.uses_validation ? symbol("reads D_V") : "") + (r.truncated ? symbol("truncated") : "") +
    (r.on_selection_seeds ? symbol("selection seeds are reporting seeds") : "") + (r.at_edge ? symbol("best at the edge") : "");
  const isChosen = r => ["task", "model", "ratio"].every(k => !chosen(k) || String(r[k]) === chosen(k)) && (!chosen("lr") || r.lr === null || String(r.lr) === chosen("lr"));
  // The contenders of rows with their marks, by label.
  const namesOf = (rows, marks = r => r.marks || "") => {
    const found = {};
    for (const r of rows) (found[r.label] = found[r.label] || []).push(marks(r));
    return Object.fromEntries(Object.entries(found).map(([label, texts]) => [label, label + together(texts)]));
  };

  // The table
  const shown = new Set(data.columns.filter(c => c.board).map(c => c.name));
  let sortBy = "", direction = 1, limit = 200;
  const text = (value, column) => value === null || value === undefined ? "–" : column.format === "signed" ? signed(value) : column.format === "share" ? (100 * value).toFixed(1) + " %" : Math.abs(value) >= 1000 ? value.toExponential(2) : Math.abs(value) >= 100 ? value.toFixed(1) : value.toFixed(3);
  const signed = value => (value > 0 ? "+" : value < 0 ? "−" : "±") + Math.abs(value).toFixed(3);
  for (const column of data.columns) {
    const box = make("input", { type: "checkbox", checked: shown.has(column.name) });
    box.addEventListener("change", () => { box.checked ? shown.add(column.name) : shown.delete(column.name); table(); });
    $("choose").append(make("label", { title: column.summary }, box, " " + column.title));
  }
  const fixed = [["task", "Task"], ["model", "Model"], ["label", "Method"], ["ratio", "Ratio"], ["n", "Trials"]].filter(([name]) => !(name in choices) || name === "ratio" || choices[name].length > 1);
  function table() {
    const columns = data.columns.filter(c => shown.has(c.name));
    const head = make("tr");
    const heading = (key, title, summary, numeric) => {
      const th = make("th", { textContent: title, title: summary || "", tabIndex: 0, className: numeric ? "n" : "" });
      if (sortBy === key) th.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      const sort = () => { direction = sortBy === key ? -direction : (data.columns.find(c => c.name === key) || {}).direction === "higher" ? -1 : 1; sortBy = key; table(); };
      th.addEventListener("click", sort);
      th.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
      head.append(th);
    };
    fixed.forEach(([key, title]) => heading(key, title, "", key === "ratio" || key === "n"));
    const here = board.filter(isChosen), arrows = { higher: " ↑", lower: " ↓", neither: "" };
    for (const c of columns) {
      heading(c.name, c.title + together(here.map(r => doubtsOf(r, c))) + arrows[c.direction], c.summary + (c.cites ? " (" + c.cites + ")" : ""), true);
      if (c.letters) {
        heading("group", "Group", "Letters by " + c.title + ": methods without a common letter differ (over common training seeds and forget draws, 5% jointly over all pairs of the cell)", false);
        heading("told_from_retrain", "Told from a retrain", "Whether its " + c.title + " is worse than that of retrains (over common training seeds and forget draws, 5% jointly over the cell; yes or no, empty where they are too few)", false);
      }
    }
    const rows = here.filter(r => !hidden.has(r.label)), sorted = data.columns.find(c => c.name === sortBy) || {};
    // What is untrusted ranks nothing: it comes last either way, as what has no value does.
    const key = r => sorted.name && (r[sortBy] === null || has(r.untrusted, sorted.of || sorted.name)) ? null : sorted.format === "signed" ? Math.abs(r[sortBy]) : r[sortBy];
    if (sortBy) rows.sort((a, b) => { const x = key(a), y = key(b); if (x === null || y === null) return (x === null) - (y === null); return direction * (typeof x === "string" ? x.localeCompare(y) : x - y); });
    const body = rows.slice(0, limit).map(r => {
      const s = style.get(r.label), tr = make("tr", { className: "row" + (r.control ? " control" : "") });
      for (const [key] of fixed) {
        const td = make("td", { className: key === "label" ? "method" : key === "ratio" || key === "n" ? "n" : "" });
        if (key === "label") {
          td.append(make("span", { className: "swatch", style: "background:" + (s ? s.colour : "#999") }), r.label);
          if (r.control) td.append(badge("control"));
          if (r.uses_validation) td.append(badge("reads D_V", "warn"));
          if (r.on_selection_seeds) td.append(badge("selection seeds are reporting seeds", "warn", r.on_selection_seeds + " "));
          if (r.at_edge) td.append(badge("best at the edge", "warn", r.at_edge + " "));
        } else if (key === "n") {
          td.append(r.n === r.planned ? String(r.n) : r.n + " of " + r.planned);
          const lost = r.planned - r.n;
          if (lost) td.append(make("span", { className: "badge bad", textContent: lost + " failed" }));
          if (r.truncated) td.append(badge("truncated", "warn", r.truncated + " "));
        } else if (key === "ratio") {
          td.append(r.ratio + " %");
          if (r.not_told_apart) td.append(sign("not told apart", "untold", r.not_told_apart));
        } else td.append(r[key]);
        tr.append(td);
      }
      for (const c of columns) {
        tr.append(cell(r, c));
        if (c.letters) {
          const told = { true: "yes", false: "no" }[r.told_from_retrain];
          for (const text of [r.group, told]) tr.append(make("td", { textContent: text ? text + doubtsOf(r, c) : "", className: "letters" }));
        }
      }
      tr.addEventListener("click", () => toggle(tr, r));
      return tr;
    });
    $("board").tHead.replaceChildren(head);
    $("board").tBodies[0].replaceChildren(...body);
    $("more").replaceChildren();
    if (rows.length > limit) {
      const all = make("button", { className: "link", type: "button", textContent: "Show all " + rows.length.toLocaleString("en") });
      all.addEventListener("click", () => { limit = Infinity; table(); });
      $("more").append(`The first ${limit} of ${rows.length.toLocaleString("en")} rows. `, all);
    }
  }
  // Of a difference to the retrain: the marks of what it is of.
  const doubtsOf = (r, c) => (has(r.untrusted, c.of || c.name) ? symbol("untrusted") : "") + (has(r.unchecked, c.of || c.name) ? symbol("not checkable") : "");
  const badge = (name, kind = "", before = "") => make("span", { className: "badge " + kind, textContent: before + name, title: data.marks[name].words });
  const sign = (name, kind, title) => make("span", { className: kind, textContent: " " + data.marks[name].symbol, title });
  function cell(r, c) {
    const value = r[c.name], none = value === null || value === undefined, td = make("td", { className: "n" + (none ? " none" : "") }, text(value, c));
    const floor = (data.noise[r.task + "\u0000" + r.model + "\u0000" + r.ratio] || {})[c.name];
    if (!none && has(r.within, c.name)) td.append(sign("within the noise floor", "within", "Within the noise floor: two retrains differ by " + floor.toFixed(4)));
    if (!none && has(r.untrusted, c.of || c.name)) td.append(sign("untrusted", "untrusted", data.marks.untrusted.words));
    if (!none && has(r.unchecked, c.of || c.name)) td.append(sign("not checkable", "unchecked", data.marks["not checkable"].words));
    const low = r[c.name + "_low"], high = r[c.name + "_high"];
    if (low !== null && low !== undefined && !(c.format === "share" && text(low, c) === text(high, c))) td.append(make("span", { className: "ci", textContent: text(low, c) + (c.format === "signed" ? " … " : " – ") + text(high, c) }));
    return td;
  }
  function toggle(tr, r) {
    if (tr.nextSibling && tr.nextSibling.className === "trials") return tr.nextSibling.remove();
    const td = make("td", { colSpan: tr.cells.length });
    td.append(make("div", { textContent: "Hyperparameters " + r.hyperparameters + (r.lr === null ? "" : ", lr " + r.lr) + (r.options && r.options !== "{}" ? ", options " + r.options : "") + ". Intervals over: " + r.interval_over + ". One trial again:" }));
    for (const { id, seed, status, run, experiment, server, from } of r.trials) {
      const line = make("code", {}, data.rerun.replace("TRIAL_ID", id) + "   # seed " + seed + ", ");
      line.append(make("span", { className: "status " + status, textContent: status }));
      if (from) line.append(", from " + from);
      if (run) line.append(", ", make("a", { href: `${server}/#/experiments/${experiment}/runs/${run}`, target: "_blank", rel: "noreferrer", textContent: "MLflow run" }));
      td.append(line);
    }
    if (r.trials.some(trial => trial.server === data.ui.server)) td.append(make("div", { className: "served" }, "The MLflow runs open while this is running: ", make("code", { textContent: data.ui.command })));
    td.addEventListener("click", event => event.stopPropagation());
    tr.after(make("tr", { className: "trials" }, td));
  }

  // The charts
  const views = [];
  const scopeOf = name => chosen(name) || (choices[name].length > 1 ? "all" : choices[name][0]);
  const inScope = (row, names) => names.every(name => row[name] === scopeOf(name)) && (!chosen("lr") || row.lr === null || String(row.lr) === chosen("lr")) && !hidden.has(row.label);
  const along = Object.keys(data.scopes.columns).filter(f => f.includes("@")).map(f => f.split("@")), shares = [...new Set(along.map(([, share]) => share))];
  const melt = row => shares.map(share => {
    const point = { label: row.label, marks: row.marks, method: row.method, ratio: row.ratio, n: row.n, share: Math.round(1e4 * Number(share)) / 100 };
    for (const [name, at] of along) if (at === share) { point[name] = row[name + "@" + share]; point[name + "_marks"] = row[name + "_marks"]; }
    return point;
  });
  const histograms = unpack(data.histograms), pooled = choices.ratio.length > 1 ? "all" : choices.ratio[0];
  // Charts that are not averaged show the first task and model unless others are chosen.
  const one = name => chosen(name) || choices[name][0];
  const rowsFor = {
    glance: () => scopes.filter(r => inScope(r, ["task", "model", "ratio"])),
    frontier: () => scopes.filter(r => inScope(r, ["task", "model", "ratio"])),
    charged: () => scopes.filter(r => inScope(r, ["task", "model", "ratio"])),
    ratio: () => scopes.filter(r => r.ratio !== "all" && inScope(r, ["task", "model"])),
    resisting: () => data.resisting.filter(r => r.task === one("task") && r.model === one("model") && !hidden.has(r.label)),
    budget: () => scopes.filter(r => inScope(r, ["task", "model", "ratio"])).flatMap(melt),
    lira: () => histograms.filter(r => r.task === one("task") && r.model === one("model") && r.ratio === (histograms.some(h => h.ratio === chosen("ratio")) ? chosen("ratio") : pooled) && !hidden.has(r.label)),
    capacity: () => data.capacity.filter(r => r.task === one("task") && r.model === one("model") && !hidden.has(r.label)),
    scaling: () => data.scaling.filter(r => r.task === one("task") && !hidden.has(r.label)),
  };
  // The parameters of a panel: its contenders with their marks, and the mark of its measure.
  const markedIn = (rows, metric) => ({ names: namesOf(rows), mark: together(rows.map(r => r[metric + "_marks"])) });
  // Whether something is said first of a cell of those that are shown.
  const untold = (names = ["task", "model", "ratio"]) => (board.some(r => r.not_told_apart && names.every(k => !chosen(k) || String(r[k]) === chosen(k))) ? symbol("not told apart") : "");
  async function draw() {
    for (const [kind, specs] of Object.entries(data.panels)) {
      const section = document.querySelector(`section[data-chart="${kind}"]`);
      if (!specs.length) {
        const how = section.querySelector(".how");
        how ? (how.hidden = false) : section.remove();
        continue;
      }
      for (let spec of specs) {
        // Panels below each other each name their rows; beside each other the first does.
        const narrow = matchMedia("(max-width: 900px)").matches;
        if (kind === "resisting" && narrow) spec = JSON.parse(JSON.stringify(spec).replaceAll('"orient":"right"', '"orient":"bottom"').replaceAll('"labelAngle":-35', '"labelAngle":-90'));
        if (kind === "glance" && narrow) spec = JSON.parse(JSON.stringify(spec).replaceAll('"labels":false', '"labels":true'));
        const box = make("div", { className: "panel" });
        section.querySelector(".panels").append(box);
        if (typeof vegaEmbed === "undefined") { box.textContent = "Not drawn: vl-convert was missing where this page was made."; continue; }
        if (kind === "lira") spec = { ...spec, columns: Math.max(1, Math.floor((box.clientWidth - 50) / 272)) };
        const rows = rowsFor[kind](), told = markedIn(rows, spec.usermeta.metric);
        const params = spec.params.map(p => (p.name in told ? { ...p, value: told[p.name] } : p));
        const { view } = await vegaEmbed(box, { ...spec, params, datasets: { rows } }, { actions: false, renderer: "svg" });
        views.push([kind, view, spec.usermeta.metric]);
      }
    }
    document.body.dataset.drawn = "yes";
  }
  function describe() {
    const part = (name, plural) => chosen(name) || (choices[name].length > 1 ? `average of ${choices[name].length} ${plural}` : choices[name][0]);
    for (const section of document.querySelectorAll("section.charts")) {
      const kind = section.dataset.chart, cell = untold(kind === "ratio" ? ["task", "model"] : undefined);
      const drawnRows = rowsFor[kind](), metrics = (data.panels[kind] || []).map(spec => spec.usermeta.metric);
      section.querySelector(".legend").textContent = legend(cell + together([...Object.values(namesOf(drawnRows)), ...metrics.map(metric => markedIn(drawnRows, metric).mark)]));
      if (["resisting", "lira", "capacity", "scaling"].includes(kind)) {
        const drawn = kind === "lira" ? rowsFor.lira() : [];
        if (kind === "lira") section.querySelector(".more").textContent = !drawn.length ? "" : drawn[0].score.startsWith("log l") ? "The score is the log likelihood ratio of the two, by shadow models of other training seeds: above 0 the attack says forgotten, whether it gives itself away by remembering or by forgetting too much." : "The score is the logit-scaled confidence in the true label: orange to the right is still remembered, to the left forgotten beyond retraining. Likelihood ratios need at least 4 training seeds, each with its retrain.";
        const ratio = !drawn.length ? [] : [drawn[0].ratio === "all" ? `all ${choices.ratio.length} ratios` : drawn[0].ratio + " %"];
        section.querySelector(".scope").textContent = [one("task"), ...(kind === "scaling" ? [] : [one("model")]), ...ratio].join(" · ") + cell;
        continue;
      }
      const ratio = section.dataset.chart === "ratio" ? [] : [chosen("ratio") ? chosen("ratio") + " %" : choices.ratio.length > 1 ? `average of ${choices.ratio.length} ratios` : choices.ratio[0] + " %"];
      const wanted = board.filter(r => isChosen(r) && !hidden.has(r.label));
      const drawn = new Set(rowsFor[section.dataset.chart]().filter(r => r.n).map(r => r.label)), absent = [...new Set(wanted.map(r => r.label))].filter(label => !drawn.has(label));
      const left = absent.length ? `Left out, because no seed has a usable trial in every cell: ${absent.slice(0, 6).join(", ")}${absent.length > 6 ? " and " + (absent.length - 6) + " more" : ""}` : "";
      section.querySelector(".scope").textContent = [part("task", "tasks"), part("model", "models"), ...ratio].join(" · ") + cell;
      section.querySelector(".left").textContent = left;
    }
  }
  function update() {
    chips();
    table();
    describe();
    for (const [kind, view, metric] of views) {
      const rows = rowsFor[kind](), { names, mark } = markedIn(rows, metric);
      view.signal("names", names).signal("mark", mark).data("rows", rows).runAsync();
    }
  }
  function chips() {
    const names = namesOf(board.filter(isChosen), ofName);
    for (const s of data.styles) {
      s.chip.setAttribute("aria-pressed", String(!hidden.has(s.label)));
      s.name.textContent = names[s.label] || s.label;
    }
  }
  chips();
  table();
  describe();
  draw();
})();
