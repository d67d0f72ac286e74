// Draws the charts: those in view first, the rest while the reader reads.
//
// `data-charts` on <html> becomes "drawn" when all have drawn, "failed" if one could
// not; `data-charts-drawn`, `data-charts-failed`, `data-violations` (of the page's
// content security policy) and `data-fetched` count, for whoever checks the page.
(() => {
  "use strict";
  const root = document.documentElement;
  const charts = [...document.querySelectorAll(".chart")];
  const coarsePointer = matchMedia("(pointer: coarse)").matches;
  const stale = new Set();
  const visible = new Set();
  let drawn = 0;
  let failed = 0;
  let violations = 0;

  const report = () => {
    root.dataset.chartsDrawn = String(drawn);
    root.dataset.chartsFailed = String(failed);
    root.dataset.violations = String(violations);
    root.dataset.fetched = String(performance.getEntriesByType("resource").length);
    if (drawn + failed === charts.length) {
      root.dataset.charts = failed === 0 ? "drawn" : "failed";
    }
  };

  document.addEventListener("securitypolicyviolation", () => {
    violations += 1;
    report();
  });

  // With a view box the drawing scales to whatever width a printed page has.
  const scalable = (chart) => {
    for (const svg of chart.querySelectorAll(".main-svg")) {
      const width = svg.getAttribute("width");
      const height = svg.getAttribute("height");
      if (width && height) svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    }
  };

  const draw = (chart) => {
    if (chart.dataset.state) return;
    chart.dataset.state = "drawing";
    const source = document.querySelector(`script[data-for="${chart.id}"]`);
    const fail = (error) => {
      console.error(`chart ${chart.id} could not be drawn`, error);
      chart.dataset.state = "failed";
      failed += 1;
      report();
    };
    // Plotly draws before newPlot returns; its promise only says that it has.
    try {
      const figure = JSON.parse(source.textContent);
      // A finger on the chart scrolls the page; only a mouse can zoom.
      if (coarsePointer) figure.layout.dragmode = false;
      // On a narrow chart the tools would cover the legend.
      if (chart.clientWidth < 560) figure.config.displayModeBar = false;
      Plotly.newPlot(chart, figure.data, figure.layout, figure.config).then(() => {
        scalable(chart);
        chart.on("plotly_afterplot", () => scalable(chart));
        chart.dataset.state = "drawn";
        drawn += 1;
        report();
      }, fail);
      scalable(chart);
    } catch (error) {
      fail(error);
    }
  };

  const refit = (chart) => {
    if (chart.dataset.state !== "drawn" || chart.clientWidth === 0) return;
    stale.delete(chart);
    Plotly.Plots.resize(chart);
  };

  const inView = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) {
          visible.delete(target);
          continue;
        }
        visible.add(target);
        draw(target);
        if (stale.has(target)) refit(target);
      }
    },
    { rootMargin: "400px 0px" },
  );

  let printing = false;
  const resized = new ResizeObserver((entries) => {
    if (printing) return;
    for (const { target, contentRect } of entries) {
      const svg = target.querySelector(".main-svg");
      if (!svg || Math.abs(Number(svg.getAttribute("width")) - contentRect.width) < 1) continue;
      stale.add(target);
      if (visible.has(target)) refit(target);
    }
  });

  const later = window.requestIdleCallback ?? ((work) => setTimeout(work, 30));
  let next = 0;
  const drawRest = () => {
    const until = performance.now() + 40;
    while (next < charts.length && performance.now() < until) draw(charts[next++]);
    if (next < charts.length) later(drawRest, { timeout: 500 });
  };

  // Paper is narrower than most windows: the wide charts are laid out anew for it, so
  // that their letters stay legible; the style sheet scales the rest.
  const PAPER_WIDTH = 690;
  const narrowed = [];
  const opened = [];
  addEventListener("beforeprint", () => {
    printing = true;
    charts.forEach(draw);
    for (const chart of charts) {
      if (chart.dataset.state === "failed" || chart.clientWidth <= PAPER_WIDTH) continue;
      Plotly.relayout(chart, { width: PAPER_WIDTH });
      scalable(chart);
      narrowed.push(chart);
    }
    for (const details of document.querySelectorAll("details:not([open])")) {
      details.open = true;
      opened.push(details);
    }
  });
  addEventListener("afterprint", () => {
    printing = false;
    for (const details of opened.splice(0)) details.open = false;
    for (const chart of narrowed.splice(0)) {
      stale.add(chart);
      if (visible.has(chart)) refit(chart);
    }
  });

  report();
  for (const chart of charts) {
    inView.observe(chart);
    resized.observe(chart);
  }
  later(drawRest, { timeout: 500 });
})();
