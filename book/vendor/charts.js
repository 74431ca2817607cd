// Draws the book's charts: the layout that fits the page, a button that plays what there is to play, and a menu that saves picture and data.
"use strict";

function lmcChart(id, wide, narrow) {
  var phone = window.matchMedia("(max-width: 600px)");
  var options = {
    actions: { export: true, source: false, compiled: false, editor: false },
    renderer: "svg",
    i18n: { SVG_ACTION: "Picture (SVG)", PNG_ACTION: "Picture (PNG)" },
    downloadFileName: id.slice(1),
  };

  function draw() {
    var spec = phone.matches ? Object.assign({}, narrow, { datasets: wide.datasets }) : wide;
    var before = chosenIn(document.querySelector(id));
    vegaEmbed(id, spec, options)
      .then(function () {
        var chart = document.querySelector(id);
        choose(chart, before);
        nameParts(chart);
        offerData(chart, wide.datasets || {});
        if (wide.usermeta && wide.usermeta.play) offerPlay(chart, wide.usermeta.play);
      })
      .catch(function (error) { console.error(error); });
  }

  draw();
  phone.addEventListener("change", draw);
}

// what a reader has chosen: a phone that is turned gets another layout, and must not lose it
function chosenIn(chart) {
  var controls = chart.querySelectorAll("form.vega-bindings input, form.vega-bindings select");
  return Array.prototype.map.call(controls, function (one) {
    return { name: one.name, type: one.type, value: one.value, checked: one.checked };
  });
}

function choose(chart, before) {
  before.forEach(function (old) {
    chart.querySelectorAll('form.vega-bindings [name="' + old.name + '"]').forEach(function (one) {
      var ticked = one.type === "radio" || one.type === "checkbox";
      if (one.type !== old.type || (one.type === "radio" && one.value !== old.value)) return;
      if (ticked ? one.checked === old.checked || (one.type === "radio" && !old.checked) : one.value === old.value) return;
      if (ticked) return one.click();
      one.value = old.value;
      ["input", "change"].forEach(function (kind) { one.dispatchEvent(new Event(kind, { bubbles: true })); });
    });
  });
}

// a button that steps through the choices of one control, from the chosen one to the last, or again from the first
function offerPlay(chart, name) {
  var form = chart.querySelector("form.vega-bindings");
  var button = document.createElement("button");
  var playing = null;
  button.type = "button";
  button.className = "lmc-play";
  form.insertBefore(button, form.firstChild);
  button.addEventListener("click", function () { playing === null ? play() : stop(); });
  stop();

  function choices() { return Array.prototype.slice.call(form.querySelectorAll('input[name="' + name + '"]')); }
  function chosen() { return choices().findIndex(function (input) { return input.checked; }); }

  function play() {
    if (chosen() === choices().length - 1) choices()[0].click();
    else step();
    playing = setInterval(step, 900);
    button.textContent = "\u25A0 Stop";
  }

  function stop() {
    clearInterval(playing);
    playing = null;
    button.textContent = "\u25B6 Play";
  }

  function step() {
    var next = chosen() + 1, all = choices();
    if (!chart.isConnected) return stop();
    all[next].click();
    if (next === all.length - 1) stop();
  }
}

// names for what Vega leaves without: its menu, and groups of marks, which it tells only by their kind
function nameParts(chart) {
  chart.querySelectorAll("summary").forEach(function (menu) { menu.setAttribute("aria-label", "picture and data"); });
  chart.querySelectorAll("svg [role='graphics-symbol']:not([aria-label])").forEach(function (marks) {
    marks.setAttribute("aria-label", marks.getAttribute("aria-roledescription") || "marks");
  });
}

// links to the two largest tables, in the menu of the pictures; smaller ones are ticks and frames
function offerData(chart, datasets) {
  var menu = chart.querySelector(".vega-actions");
  if (!menu) return;
  var names = Object.keys(datasets).sort(function (a, b) { return datasets[b].length - datasets[a].length; });
  names.slice(0, 2).forEach(function (name) {
    var rows = datasets[name];
    if (rows.length < 8 && name !== names[0]) return;
    var link = document.createElement("a");
    link.textContent = "Data, " + rows.length + " rows (CSV)";
    link.download = chart.id + "-" + name.slice(-6) + ".csv";
    link.href = "#";
    link.addEventListener("mousedown", prepare);
    link.addEventListener("focus", prepare);
    menu.appendChild(link);

    function prepare() {
      if (link.href.slice(0, 5) !== "blob:") link.href = URL.createObjectURL(new Blob([asCsv(rows)], { type: "text/csv" }));
    }
  });
}

function asCsv(rows) {
  var columns = [];
  rows.forEach(function (row) {
    Object.keys(row).forEach(function (name) { if (columns.indexOf(name) < 0) columns.push(name); });
  });
  function cell(value) {
    var text = value === null || value === undefined ? "" : String(value);
    return /[",\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
  }
  var lines = rows.map(function (row) { return columns.map(function (name) { return cell(row[name]); }).join(","); });
  return [columns.join(",")].concat(lines).join("\n") + "\n";
}
