// Draws the figures of the page, light or dark as the reader's system is, light on paper.
"use strict";
(() => {
  const {figures, templates} = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const places = [...document.querySelectorAll("[data-figure]")];
  const template = () => (dark.matches ? templates.dark : templates.light);
  // These buttons and no others: among plotly's own is one that hands the figure to a service of theirs.
  const buttons = [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]];
  const options = {responsive: true, displaylogo: false, modeBarButtons: buttons, plotlyServerURL: ""};

  // On a narrow screen labels of an axis would leave no room for the picture.
  const narrow = (layout) => {
    if (window.innerWidth >= 600) return layout;
    const small = structuredClone(layout);
    small.font = {...small.font, size: 10};
    for (const name of Object.keys(small).filter((key) => /^[xy]axis/.test(key))) {
      const axis = small[name];
      if (axis.ticktext) axis.ticktext = axis.ticktext.map((text) => (text.length > 30 && !text.includes("<br>") ? text.replace(/&[a-z]+;/g, (e) => ({"&lt;": "‹", "&gt;": "›"}[e] || "+")).slice(0, 29) + "…" : text));
      axis.tickfont = {...axis.tickfont, size: 9};
    }
    return small;
  };

  const smaller = (trace) =>
    window.innerWidth < 600 && trace.textfont ? {...trace, textfont: {...trace.textfont, size: 8}} : trace;

  for (const place of places) {
    const {data, layout} = figures[place.dataset.figure];
    place.style.height = `${layout.height}px`;
    Plotly.newPlot(place, data.map(smaller), {...narrow(layout), template: template()}, {...options, displayModeBar: window.innerWidth < 600 ? false : "hover"});
  }
  dark.addEventListener("change", () => places.forEach((place) => Plotly.relayout(place, {template: template()})));
  window.addEventListener("beforeprint", () =>
    places.forEach((place) => Plotly.relayout(place, {template: templates.light, width: 680, autosize: false})));
  window.addEventListener("afterprint", () =>
    places.forEach((place) => Plotly.relayout(place, {template: template(), width: null, autosize: true})));
})();
