// Draws the book's charts: the layout that fits the page, and a menu that saves the picture and its data.
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
    vegaEmbed(id, spec, options)
      .then(function () {
        var chart = document.querySelector(id);
        nameParts(chart);
        offerData(chart, wide.datasets || {});
      })
      .catch(function (error) { console.error(error); });
  }

  draw();
  phone.addEventListener("change", draw);
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
