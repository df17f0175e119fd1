"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dialog = document.getElementById("provenance");
  const title = document.getElementById("provenance-title");
  const body = document.getElementById("provenance-body");

  // Elements are made from text alone: nothing that stands in the data can become markup.
  const element = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "style") made.style.setProperty("--a", value);
      else made.setAttribute(key, value);
    }
    made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
    return made;
  };
  // As rounding.py does it: a number is the same wherever it stands.
  const tenth = (value, plus) => {
    if (value === null || Number.isNaN(value)) return "—";
    const size = Math.floor(Math.abs(value) * 10 + 0.5 + 1e-5) / 10;
    return (size === 0 ? "" : value < 0 ? "-" : plus) + size.toFixed(1);
  };
  const number = (value) => tenth(value, "");
  const signed = (value) => tenth(value, "+");
  const withSpread = (mean, sd) => number(mean) + (sd === null ? "" : ` ± ${number(sd)}`);
  const table = (head, rows, className = "") =>
    element("div", { class: "scroll" }, element("table", { class: className },
      element("thead", {}, element("tr", {}, ...head.map((text) => (text ? element("th", { scope: "col" }, text) : element("td", {}))))),
      element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row)))));
  const list = (pairs) =>
    element("dl", {}, ...pairs.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
  const boardOf = (node) => data.boards[node.closest(".board").id];
  // A number belongs to the metric of the part of the page in which it stands.
  const metricOf = (node) => node.closest("[data-metric]").dataset.metric;

  // ------------------------------------------------------------------------------------------------------- sorting
  const sort = (head) => {
    const place = head.cellIndex;
    const rows = head.closest("table").tBodies[0];
    const down = head.getAttribute("aria-sort") !== "descending" && !(head.getAttribute("aria-sort") === "none" && place === 0);
    for (const other of head.parentNode.cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => {
      const cell = row.cells[place];
      return "value" in cell.dataset ? (cell.dataset.value === "" ? null : Number(cell.dataset.value)) : cell.textContent.trim();
    };
    const compare = (a, b) => {
      const [left, right] = [key(a), key(b)];
      if (left === null || right === null) return (left === null) - (right === null); // what is missing stays below
      const order = typeof left === "number" ? left - right : left.localeCompare(right);
      return down ? -order : order;
    };
    rows.append(...[...rows.rows].sort(compare));
  };

  // ----------------------------------------------------------------------------------------------------- provenance
  const provenance = (key) => {
    const run = data.records[key];
    const environment = data.environments[run.environment];
    const { commit, device, threads, platform, ...versions } = environment;
    const seconds = Object.entries(run.seconds).map(([name, value]) => `${name} ${value} s`).join(", ");
    return element("details", { class: "record" },
      element("summary", {}, element("code", {}, key), ` ${run.method}`),
      list([
        ["record", element("code", {}, run.file)],
        ["commit", element("code", {}, commit ?? "—")],
        ["method's text", element("code", {}, run.text)],
        ["protocol", run.protocol || "—"],
        ["weights", run.networks.map(([name, network, digest]) => `${name}: ${network} ${digest}`).join("; ") || "none"],
        ["learned from", Object.entries(run.learned).map(([name, state]) => `${name} ${state}`).join("; ")
          + (run.adapted === null ? "" : `; adapted to ${run.adapted}`)],
        ["epoch scored", run.epoch ?? "last"],
        ["begun", run.started],
        ["took", seconds],
        ["on", [device, threads && `${threads} threads`, platform].filter(Boolean).join(", ") || "—"],
        ["versions", Object.entries(versions).map(([name, version]) => `${name} ${version ?? "—"}`).join(", ")],
      ]));
  };

  const confusion = (counts, caption) => {
    const names = data.expressions;
    const rows = names.map((name, place) => {
      const row = counts.slice(place * names.length, (place + 1) * names.length);
      const total = row.reduce((sum, count) => sum + count, 0);
      return [element("th", { scope: "row" }, name), ...row.map((count) =>
        element("td", { class: "cell", style: total ? count / total : 0, title: `${count} of ${total}` },
          total ? Math.round((100 * count) / total) : "—"))];
    });
    return element("div", {}, element("h4", {}, caption),
      table(["", ...names.map((name) => name.slice(0, 3))], rows, "heat confusion"));
  };

  const cellDetails = (row, name, metric) => {
    const cell = row.cells[name];
    const [source, target] = name.split("|");
    if (!cell) return [element("h3", {}, row.name), element("p", {}, "no record")];
    const runs = [...cell.runs].sort((a, b) => a[1] - b[1]);
    return [
      element("h3", {}, row.name),
      element("p", {}, `Trained on ${source}, scored on ${target} (${cell.said}): `
        + `${data.metrics[metric]} ${withSpread(cell.mean[metric], cell.sd[metric])}, ${runs.length} run${runs.length > 1 ? "s" : ""}`),
      table(["seed", ...Object.values(data.metrics), "faces", "record"], runs.map(([key, seed, values, faces]) => [
        element("th", { scope: "row" }, seed),
        ...Object.keys(data.metrics).map((name) => element("td", {}, number(values[name]))),
        element("td", {}, faces.toLocaleString("en")), element("td", { class: "left" }, element("code", {}, data.records[key].file))])),
      ...runs.map(([key]) => provenance(key)),
      confusion(cell.confusion, "Confusion, all seeds: true expression by row, share of it (%)"),
    ];
  };

  const meanDetails = (row, column, metric, text) => {
    const wanted = { in_domain: ["source"], unseen: ["unseen"], worst: ["unseen"] }[column] ?? ["source", "seen", "unseen"];
    const cells = Object.entries(row.cells).filter(([, cell]) => wanted.includes(cell.relation));
    const keys = [...new Set(cells.flatMap(([, cell]) => cell.runs.map(([key]) => key)))];
    const what = {
      in_domain: "In-domain", unseen: "Unseen", all: "All targets", worst: "Worst unseen target",
    }[column];
    const how = column === "worst" ? "the lowest of the means by target over these cells" : "the mean over these cells";
    const parameters = Object.entries(row.parameters).map(([name, value]) =>
      `${name}=${value}${row.changes.includes(name) ? " (changed)" : ""}`).join(", ");
    return [
      element("h3", {}, row.name),
      ...(what ? [
        element("p", { class: "big" }, `${what}, ${data.metrics[metric]}: ${text}`),
        element("p", {}, `This is ${how}, each seed by itself, then over the seeds that have all of them.`),
      ] : []),
      table(["source", "target", "relation", data.metrics[metric], "faces"], cells.map(([name, cell]) => {
        const [source, target] = name.split("|");
        return [element("td", { class: "left" }, source), element("td", { class: "left" }, target),
          element("td", { class: "left" }, cell.said), element("td", {}, withSpread(cell.mean[metric], cell.sd[metric])),
          element("td", {}, [...new Set(cell.runs.map((run) => run[3].toLocaleString("en")))].join(" or "))];
      })),
      list([["parameters", parameters || "none"]]),
      element("h3", {}, `${keys.length} record${keys.length > 1 ? "s" : ""}`),
      ...keys.map(provenance),
    ];
  };

  const show = (heading, parts) => {
    title.textContent = heading;
    body.replaceChildren(...parts);
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    const only = body.querySelectorAll("details.record");
    if (only.length === 1) only[0].open = true;
  };

  const open = (button) => {
    const board = boardOf(button);
    const metric = metricOf(button);
    const rows = button.dataset.row.split(",").map((place) => board.rows[Number(place)]);
    if ("cell" in button.dataset) show(button.dataset.cell.replace("|", " → "), rows.flatMap((row) => cellDetails(row, button.dataset.cell, metric)));
    else show(board.title, meanDetails(rows[0], button.dataset.column, metric, button.dataset.text));
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) {
      if (event.target === dialog) dialog.close(); // the backdrop
    } else if (button.id === "close") dialog.close();
    else if (button.classList.contains("number")) open(button);
    else if (button.classList.contains("save")) save(button.dataset.file);
    else if (button.classList.contains("copy")) copy(document.getElementById(button.dataset.copies));
    else if (button.closest("table.sortable thead")) sort(button.closest("th"));
  });

  // ----------------------------------------------------------------------------------------------------- differences
  const average = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  // A row may have seeds that the other lacks, and then only those that both have are compared, as the command does.
  const bySeed = (cell, metric) => new Map([...new Set(cell.runs.map((run) => run[1]))].map((seed) =>
    [seed, average(cell.runs.filter((run) => run[1] === seed).map((run) => run[2][metric]))]));
  const between = (low, high) => (low === null ? "—" : `${signed(low)} to ${signed(high)}`);
  const probability = (p) => (p === null ? "—" : p < 0.001 ? "< 0.001" : p.toFixed(3));
  // The result of the comparison: [sentence, difference of the means, differences by target]; the better row is first.
  const verdict = (board, metric, places) => {
    const pairs = board.pairs[metric];
    const [there, turned] = [pairs[places.join(",")], pairs[[...places].reverse().join(",")]];
    if (!there && !turned) return null;
    const [said, [value, low, high, p, wideLow, wideHigh], targets] = there ?? turned;
    const turn = (number) => (number === null ? null : there ? number : -number);
    const ends = (one, other) => (there ? [one, other] : [turn(other), turn(one)]);
    return { said, value: turn(value), p, ends: ends(low, high), wide: ends(wideLow, wideHigh),
      targets: targets.map(([name, faces, apart, from, to, corrected]) => [name, faces, turn(apart), ...ends(from, to), corrected]) };
  };
  const drawVerdict = (found, names, metric) => {
    if (!found) {
      return [element("p", {}, "Not tested on this page: the two differ in sources or seeds, lack predictions, or stand too low. "
        + `Compare what they share with: fergen-bench compare "${names[1]}" "${names[0]}" --metric ${metric}`)];
    }
    const rows = [["all unseen", "", found.value, ...found.ends, found.p], ...found.targets].map(([name, faces, apart, low, high, p]) => [
      element("th", { scope: "row" }, name), element("td", {}, signed(apart)), element("td", {}, between(low, high)),
      element("td", {}, probability(p)), element("td", {}, faces.toLocaleString("en"))]);
    return [
      element("p", { class: "big" }, found.said),
      table(["target", "points", "95 %", "p", "faces"], rows),
      element("p", { class: "quiet" }, "p by target is corrected for the number of targets (Holm). "
        + (found.wide[0] === null ? "" : `For other domains than these the 95 % interval is ${between(...found.wide)}.`)),
    ];
  };
  const drawDifference = (part) => {
    const board = boardOf(part);
    const metric = metricOf(part);
    const places = [".first", ".second"].map((name) => Number(part.querySelector(name).value));
    const [first, second] = places.map((place) => board.rows[place]);
    const values = {};
    for (const name of Object.keys(first.cells)) {
      const seeds = second.cells[name] ? bySeed(second.cells[name], metric) : new Map();
      const pairs = [...bySeed(first.cells[name], metric)].filter(([seed]) => seeds.has(seed)).map(([seed, value]) => value - seeds.get(seed));
      if (pairs.length) values[name] = average(pairs);
    }
    const reach = Math.max(1, ...Object.values(values).map(Math.abs));
    const rows = board.sources.map((source) => [element("th", { scope: "row" }, source), ...board.targets.map((target) => {
      const name = `${source}|${target}`;
      const value = values[name];
      if (value === undefined) return element("td", { class: "cell" }, "—");
      const relation = first.cells[name].relation;
      return element("td", { class: `cell ${relation} ${value < 0 ? "less" : "more"}`, style: Math.abs(value) / reach },
        element("button", { type: "button", class: "number", tabindex: "-1", "data-row": places.join(","), "data-cell": name }, signed(value)));
    })]);
    const unseen = Object.keys(values).filter((name) => first.cells[name].relation === "unseen").map((name) => values[name]);
    const mean = unseen.length ? average(unseen) : null;
    const said = first === second ? [element("p", {}, "Choose two different rows.")]
      : drawVerdict(verdict(board, metric, places), [first.name, second.name], metric);
    part.querySelector(".drawn").replaceChildren(
      ...said,
      table(["", ...board.targets], rows, "heat"),
      element("p", { class: "quiet" }, `Mean over ${unseen.length} unseen cells: ${mean === null ? "—" : signed(mean)} points. `
        + "Blue: the first is ahead; orange: the second. Single cells are not tested."));
    rove(part);
  };

  // -------------------------------------------------------------------------------------------------------- keyboard
  // A table of numbers is one tab stop; arrow keys move in it.
  const rove = (scope) => {
    for (const one of scope.querySelectorAll("table")) {
      const first = one.querySelector("button.number");
      if (first && !one.querySelector('button.number[tabindex="0"]')) first.tabIndex = 0;
    }
  };
  document.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const button = event.target.closest?.("button.number");
    if (!step || !button) return;
    const [row, column] = [button.closest("tr"), button.closest("th, td").cellIndex];
    const seen = [...row.parentNode.rows].filter((one) => !one.hidden);
    const buttons = step[0]
      ? seen.map((one) => one.cells[column]?.querySelector("button.number"))
      : [...row.cells].map((cell) => cell.querySelector("button.number"));
    const there = buttons.filter(Boolean);
    const next = there[there.indexOf(button) + step[0] + step[1]];
    if (!next) return;
    event.preventDefault();
    button.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });

  // --------------------------------------------------------------------------------------------------- filter, save, copy
  const said = document.getElementById("said");
  const filter = document.getElementById("filter");
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...document.querySelectorAll("main [data-name]")];
    for (const row of rows) row.hidden = !words.every((word) => row.dataset.name.toLowerCase().includes(word));
    const shown = document.querySelectorAll(".leaderboard tbody tr:not([hidden])").length / Object.keys(data.metrics).length;
    said.textContent = `${shown} rows`;
  });

  const save = async (name) => {
    const bytes = Uint8Array.from(atob(data.files[name]), (letter) => letter.charCodeAt(0));
    const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const address = URL.createObjectURL(await new Response(plain).blob());
    element("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  };

  // A table is copied with tabs between its cells, as spreadsheets take it.
  const copy = async (node) => {
    const text = (cell) => cell.innerText.trim().replace(/\s+/g, " ");
    const rows = node.rows && [...node.rows].filter((row) => !row.hidden);
    const content = rows ? rows.map((row) => [...row.cells].map(text).join("\t")).join("\n") : node.textContent;
    try {
      await navigator.clipboard.writeText(content);
      said.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(node);
      said.textContent = "selected; copy it with Ctrl-C";
    }
  };

  for (const part of document.querySelectorAll(".filter, .save, .copy, .difference")) part.hidden = false;
  for (const part of document.querySelectorAll(".difference")) {
    part.addEventListener("change", () => drawDifference(part));
    drawDifference(part);
  }
  rove(document);

  // ------------------------------------------------------------------------------------------------------ confusions
  const drawConfusions = (part) => {
    const row = boardOf(part).rows[Number(part.dataset.row)];
    const place = part.querySelector(".confusions");
    if (place.childElementCount) return;
    for (const [relation, words] of [["source", "in-domain"], ["unseen", "unseen targets"]]) {
      const cells = Object.values(row.cells).filter((cell) => cell.relation === relation);
      if (!cells.length) continue;
      const sum = cells.reduce((total, cell) => total.map((count, index) => count + cell.confusion[index]), new Array(data.expressions.length ** 2).fill(0));
      place.append(confusion(sum, `Confusion, ${words}: true expression by row, share of it (%)`));
    }
  };
  for (const part of document.querySelectorAll("details.matrix")) {
    part.addEventListener("toggle", () => part.open && drawConfusions(part));
    if (part.open) drawConfusions(part);
  }

  // On paper nothing can be opened.
  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("main details:not([open])")];
    for (const part of closed) part.open = true;
    document.querySelectorAll("details.matrix").forEach(drawConfusions);
  });
  window.addEventListener("afterprint", () => closed.forEach((part) => { part.open = false; }));
})();
