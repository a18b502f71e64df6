"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const { common, figures } = read("figures-data");
  const { swap } = read("palette-data");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 640px)");
  const chosen = {};
  let printing = false;

  // plotly.js stands in the page as gzip in base64. The policy knows the hash of its text, so this script may run it.
  const load = async () => {
    const packed = atob(document.getElementById("plotly-data").textContent);
    const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  };

  // What all plots share stands in the page once; a plot's own values win.
  const isObject = (value) => value && typeof value === "object" && !Array.isArray(value);
  const filled = (own, base) => {
    if (own === undefined) return structuredClone(base);
    if (!isObject(own) || !isObject(base)) return own;
    return Object.fromEntries([...new Set([...Object.keys(base), ...Object.keys(own)])].map((key) => [key, filled(own[key], base[key])]));
  };
  const withStyle = (layout) => {
    const { axis, ...rest } = common;
    const whole = filled(layout, rest);
    for (const key of Object.keys(whole)) if (/^[xy]axis\d*$/.test(key)) whole[key] = filled(whole[key], axis);
    return whole;
  };

  // Plots are built with the colours of the light page; each has one partner for the dark one.
  const recolour = (value) => {
    if (typeof value === "string") return Object.hasOwn(swap, value) ? swap[value] : value;
    if (Array.isArray(value)) return value.map(recolour);
    if (value && typeof value === "object" && !ArrayBuffer.isView(value)) {
      return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, recolour(inner)]));
    }
    return value;
  };

  // layout.meta.narrow holds what a small screen needs otherwise, as {"xaxis.title.text": ...}.
  const patch = (layout, changes) => {
    for (const [path, value] of Object.entries(changes)) {
      const keys = path.split(".");
      const last = keys.pop();
      let at = layout;
      for (const key of keys) at = at[key] ??= {};
      at[last] = value;
    }
  };

  const draw = (key) => {
    const figure = figures[key];
    const box = document.getElementById(key);
    const view = structuredClone(figure.views[chosen[key] ?? 0]);
    const small = narrow.matches && !printing;
    let { data } = view;
    let layout = withStyle(view.layout);
    const meta = layout.meta ?? {};
    delete layout.meta;
    // A trace named for one kind of screen is left out of the other.
    data = data.filter((trace) => !trace.meta?.only || trace.meta.only === (small ? "narrow" : "wide"));
    if (small) {
      if (meta.narrow) patch(layout, meta.narrow);
      for (const trace of data) if (trace.meta?.narrow) patch(trace, trace.meta.narrow);
    }
    layout.height = small ? figure.narrowHeight : figure.height;
    layout.autosize = true;
    layout.dragmode = small ? false : layout.dragmode ?? false;
    if (dark.matches && !printing) {
      data = recolour(data);
      layout = recolour(layout);
    }
    const config = {
      responsive: true,
      displaylogo: false,
      displayModeBar: small ? false : "hover",
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
      scrollZoom: false,
      doubleClick: "reset",
      toImageButtonOptions: { format: "svg", filename: key },
    };
    return Plotly.react(box, data, layout, config);
  };

  // Whether plotly.js could be unpacked; if not, the page says so.
  const ready = load().then(() => true, (error) => {
    const note = document.createElement("p");
    note.className = "missing";
    note.textContent = `The figures need a newer browser (${error.message}). The tables below hold the same findings without them.`;
    document.getElementById("content").prepend(note);
    return false;
  });
  const drawAll = async () => {
    const there = await ready;
    if (there) await Promise.all(Object.keys(figures).map(draw));
    return there;
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-target]");
    if (!button) return;
    const key = button.dataset.target;
    chosen[key] = Number(button.dataset.view);
    for (const other of button.parentElement.children) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    ready.then((there) => { if (there) draw(key); });
  });

  dark.addEventListener("change", drawAll);
  narrow.addEventListener("change", drawAll);
  addEventListener("beforeprint", () => { printing = true; drawAll(); });
  addEventListener("afterprint", () => { printing = false; drawAll(); });
  drawAll().then((there) => { document.documentElement.dataset.drawn = there ? "yes" : "no"; });
})();
