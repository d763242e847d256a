(function () {
  "use strict";
  var root = document.documentElement;
  var section = document.getElementById("explore");
  var place = document.getElementById("explore-charts");
  var text = document.getElementById("explore-spec").textContent;
  var table = JSON.parse(document.getElementById("explore-grid").textContent);
  var MIN_TWO_COLUMNS = 760, CHART_HEIGHT = 260, AXES = 92;
  var view = null;

  function colour(name) {
    return getComputedStyle(root).getPropertyValue(name).trim();
  }

  // The placeholders of the static figures' colours, which the page's style sheet fills for each background.
  function painted() {
    var roles = ["ink", "muted", "grid", "paper", "accent", "second"];
    var filled = text.replace(/#0b([0-9a-f]{2})([0-9a-f]{2})/g, function (_, place, count) {
      return colour("--budget-" + parseInt(place, 16) + "-of-" + parseInt(count, 16));
    });
    filled = filled.replace(/#0a0b0([1-6])/g, function (_, place) {
      return colour("--figure-" + roles[Number(place) - 1]);
    });
    var spec = JSON.parse(filled);
    var soft = colour("--soft"), rule = colour("--rule"), ink = colour("--text");
    spec.background = "transparent";
    spec.config = {
      font: "system-ui, sans-serif",
      view: { stroke: rule },
      axis: { labelColor: soft, titleColor: soft, gridColor: colour("--figure-grid"), domainColor: rule, tickColor: rule,
              titleFontWeight: "normal" },
      title: { color: ink, anchor: "start", fontSize: 13 },
      legend: { labelColor: ink, titleColor: soft },
      rule: { color: soft }
    };
    return spec;
  }

  function sized(spec) {
    var width = place.clientWidth;
    spec.columns = width >= MIN_TWO_COLUMNS ? 2 : 1;
    spec.concat.forEach(function (chart) {
      chart.width = Math.max(180, Math.floor(width / spec.columns) - AXES);
      chart.height = CHART_HEIGHT;
    });
    return spec;
  }

  function signals() {
    return view ? ["budget", "count", "quantity", "approach", "against"].map(function (name) {
      return [name, view.signal(name)];
    }) : [];
  }

  function draw() {
    var kept = signals();
    var options = {
      actions: { export: true, source: false, compiled: false, editor: false },
      bind: "#explore-controls",
      renderer: "svg",
      tooltip: { theme: root.dataset.theme === "dark" || isDark() ? "dark" : "light" }
    };
    document.getElementById("explore-controls").textContent = "";
    return vegaEmbed(place, sized(painted()), options).then(function (result) {
      var menu = place.querySelector("details > summary");
      if (menu) menu.setAttribute("aria-label", "save the charts as a picture");
      view = result.view;
      kept.forEach(function (pair) { view.signal(pair[0], pair[1]); });
      return view.runAsync();
    }).then(function () { section.dataset.drawn = String(Number(section.dataset.drawn || 0) + 1); });
  }

  function isDark() {
    return root.dataset.theme ? root.dataset.theme === "dark"
      : window.matchMedia("(prefers-color-scheme: dark)").matches;
  }

  // ---- the sliders -------------------------------------------------------------------------------------------------
  function between(axis, value) {
    var last = axis.length - 1;
    var step = Math.min(Math.max((value - axis[0]) / (axis[last] - axis[0]) * last, 0), last);
    var low = Math.min(Math.floor(step), last - 1);
    return [low, step - low];
  }

  function at(values, flops, ratio) {
    var c = between(table.flops, flops), r = between(table.ratios, ratio);
    function row(i) { return values[i][r[0]] * (1 - r[1]) + values[i][r[0] + 1] * r[1]; }
    return row(c[0]) * (1 - c[1]) + row(c[0] + 1) * c[1];
  }

  function size(value) {
    var units = [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "K"]];
    for (var i = 0; i < units.length; i += 1) {
      if (value >= units[i][0]) { return (value / units[i][0]).toPrecision(3) + units[i][1]; }
    }
    return value.toPrecision(3);
  }

  function slider(id) { return Number(document.getElementById(id).value); }

  function read() {
    var flops = slider("slide-flops"), ratio = slider("slide-ratio"), served = Math.pow(10, slider("slide-served"));
    var c = between(table.flops, flops);
    var best = table.best[c[0]] * (1 - c[1]) + table.best[c[0] + 1] * c[1];
    var n = Math.exp(at(table.params, flops, ratio)), d = n * Math.exp(ratio), total = Math.exp(flops);
    var loss = at(table.loss, flops, ratio);
    var percent = Math.round(100 * table.level);
    var interval = table.lo ? at(table.lo, flops, ratio).toFixed(3) + " to " + at(table.hi, flops, ratio).toFixed(3)
      : "no interval: " + table.reason;
    var reach = total / table.fitted;
    var out = {
      "out-flops": total.toExponential(2) + " FLOPs" + (reach > 1 ? ", " + reach.toPrecision(2) +
        " times the largest fitted" : ", within the fitted range"),
      "out-ratio": Math.exp(ratio).toPrecision(3) + " tokens a parameter; least loss at " + Math.exp(best).toPrecision(3),
      "out-shape": size(n) + " parameters, " + size(d) + " tokens",
      "out-loss": loss.toFixed(3) + " (" + table.unit + ")",
      "out-interval": interval + (table.lo ? " (" + percent + " % prediction interval of one run)" : ""),
      "out-served": served < 2 ? "nothing is generated" : size(served) + " tokens generated cost " +
        (2 * n * served).toExponential(2) + " FLOPs, " + (2 * n * served / total).toPrecision(2) + " times the training"
    };
    Object.keys(out).forEach(function (id) { document.getElementById(id).textContent = out[id]; });
  }

  function range(id, low, high, value) {
    var input = document.getElementById(id);
    input.min = low; input.max = high; input.step = (high - low) / 400; input.value = value;
    input.addEventListener("input", read);
  }

  section.hidden = false;
  var flops = table.flops, ratios = table.ratios;
  range("slide-flops", flops[0], flops[flops.length - 1], Math.log(table.fitted));
  range("slide-ratio", ratios[0], ratios[ratios.length - 1],
        table.best[between(flops, Math.log(table.fitted))[0]]);
  range("slide-served", 0, 15, 0);
  read();
  draw().catch(function (error) { place.textContent = "The charts could not be drawn: " + error.message; });
  document.getElementById("theme").addEventListener("click", draw);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  var width = place.clientWidth;
  window.addEventListener("resize", function () {
    if (Math.abs(place.clientWidth - width) > 30) { width = place.clientWidth; draw(); }
  });
})();
