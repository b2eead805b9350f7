// Draws the panels of a dashboard with Grafana's own components, from the data of a real Prometheus or a recording of it. Runs in a
// browser; the page sets `window.settings`. Each panel has its title in `data-title`, and each canvas the texts and line colours
// drawn on it.
import React from "react";
import { createRoot } from "react-dom/client";
import { createTheme, dateTime, FieldColorModeId, FieldType, getDisplayProcessor, ThemeContext, toDataFrame } from "@grafana/data";
import { BigValue, BigValueColorMode, BigValueGraphMode, BigValueTextMode, LegendDisplayMode, Table, TimeSeries } from "@grafana/ui";

const { dashboard, prometheus, recording, start, end } = window.settings;
const [CELL_WIDTH, CELL_HEIGHT, STEP_S] = [60, 36, 1];
/// Types of panels that Grafana's packages export.
const DRAWN = ["stat", "table", "timeseries"];
const theme = createTheme({ colors: { mode: "dark" } });

const context = CanvasRenderingContext2D.prototype;
for (const [method, list] of [["fillText", "texts"], ["stroke", "strokes"]]) {
  const original = context[method];
  context[method] = function (...words) {
    (this.canvas[list] ??= []).push(method === "fillText" ? String(words[0]) : String(this.strokeStyle));
    return original.apply(this, words);
  };
}

const withDefaults = (text) =>
  text.replaceAll("$__rate_interval", "15s").replaceAll("$job", "fibsrv").replace(/\$(namespace|release|instance)\b/g, ".*");

async function query(target, isRange) {
  if (recording) {
    const found = recording[target.expr]?.[isRange ? "range" : "instant"] ?? [];
    return found.map(({ metric, value, values }) => ({ metric, values: values ?? [value] }));
  }
  const expression = encodeURIComponent(withDefaults(target.expr));
  const path = isRange ? `query_range?query=${expression}&start=${start}&end=${end}&step=${STEP_S}` : `query?query=${expression}&time=${end}`;
  const found = await (await fetch(`${prometheus}/api/v1/${path}`)).json();
  return found.data.result.map(({ metric, value, values }) => ({ metric, values: values ?? [value] }));
}

const name = (format, labels) => (format ?? "").replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? "") || "Value";

function frame(panel, target, { metric, values }, seriesIndex) {
  const { defaults } = panel.fieldConfig;
  const steps = defaults.thresholds?.steps.map((step) => ({ ...step, value: step.value ?? -Infinity }));
  const isStat = panel.type === "stat";
  const custom = { axisPlacement: "auto", lineInterpolation: "linear", ...defaults.custom };
  const config = {
    color: { mode: isStat ? FieldColorModeId.Thresholds : FieldColorModeId.PaletteClassic },
    ...defaults,
    thresholds: steps && { ...defaults.thresholds, steps },
    custom,
    displayNameFromDS: name(target.legendFormat, metric),
  };
  const drawn = toDataFrame({
    refId: target.refId,
    fields: [
      { name: "Time", type: FieldType.time, values: values.map(([at]) => at * 1000), config: {} },
      { name: "Value", type: FieldType.number, labels: metric, values: values.map(([, value]) => Number(value)), config },
    ],
  });
  return displayed(drawn, seriesIndex);
}

function displayed(drawn, seriesIndex) {
  for (const field of drawn.fields) {
    field.state = { seriesIndex, displayName: field.config.displayNameFromDS ?? field.name };
    field.display = getDisplayProcessor({ field, theme, timeZone: "utc" });
  }
  return drawn;
}

/// A frame with a column for each label that the panel does not exclude, and a row for each series.
function table(panel, series) {
  const excluded = panel.transformations?.find(({ id }) => id === "organize")?.options.excludeByName ?? {};
  const labels = [...new Set(series.flatMap(({ metric }) => Object.keys(metric)))].filter((label) => !excluded[label]);
  const fields = labels.map((label) => ({
    name: label,
    type: FieldType.string,
    values: series.map(({ metric }) => metric[label] ?? ""),
    config: { custom: panel.fieldConfig.defaults.custom },
  }));
  return displayed(toDataFrame({ fields }), 0);
}

async function frames(panel) {
  if (panel.type === "table") {
    const series = await query(panel.targets[0], false);
    return series.length === 0 ? [] : [table(panel, series)];
  }
  const drawn = [];
  for (const target of panel.targets ?? []) {
    for (const series of await query(target, panel.type === "timeseries")) {
      drawn.push(frame(panel, target, series, drawn.length));
    }
  }
  return drawn;
}

function Content({ panel, data, width, height }) {
  if (data.length === 0) return null;
  if (panel.type === "stat") {
    const isSingle = data.length === 1;
    const textMode = isSingle ? BigValueTextMode.Value : BigValueTextMode.ValueAndName;
    const values = data.map(({ fields: [, field] }) => {
      return { ...field.display(field.values[field.values.length - 1]), title: isSingle ? undefined : field.state.displayName };
    });
    const isWide = width > height;
    const [across, down] = isWide ? [width / data.length, height] : [width, height / data.length];
    return (
      <div style={{ display: "flex", flexDirection: isWide ? "row" : "column" }}>
        {values.map((value, index) => (
          <BigValue
            key={index}
            theme={theme}
            width={across}
            height={down}
            value={value}
            textMode={textMode}
            colorMode={BigValueColorMode.Value}
            graphMode={BigValueGraphMode.None}
          />
        ))}
      </div>
    );
  }
  if (panel.type === "table") return <Table data={data[0]} width={width} height={height} />;
  const range = { from: dateTime(start * 1000), to: dateTime(end * 1000), raw: { from: "now-1m", to: "now" } };
  const legend = { ...panel.options.legend, displayMode: LegendDisplayMode.List };
  return <TimeSeries frames={data} structureRev={1} timeRange={range} timeZone="utc" width={width} height={height} legend={legend} />;
}

function Panel({ panel, data }) {
  const { x, y, w, h } = panel.gridPos;
  const [width, height] = [w * CELL_WIDTH - 8, h * CELL_HEIGHT - 8];
  const place = { position: "absolute", left: x * CELL_WIDTH, top: y * CELL_HEIGHT, width, height };
  if (panel.type === "row") return <b style={{ ...place, paddingTop: 8 }}>{panel.title}</b>;
  const border = `1px solid ${theme.colors.border.weak}`;
  if (!DRAWN.includes(panel.type)) return <div style={{ ...place, border, padding: "4px 8px", opacity: 0.5 }}>{panel.title}: drawn by Grafana only</div>;
  const values = panel.type === "timeseries" ? data.flatMap(({ fields: [, field] }) => [...field.values]) : [];
  const largest = Math.max(0, ...values.filter(Number.isFinite).map(Math.abs));
  return (
    <div data-id={panel.id} data-title={panel.title} data-series={data.length} data-largest={largest} style={{ ...place, background: theme.colors.background.primary, border }}>
      <div style={{ padding: "4px 8px", fontWeight: 500 }}>{panel.title}</div>
      <Content panel={panel} data={data} width={width - 16} height={height - 34} />
    </div>
  );
}

const shown = dashboard.panels;
const data = await Promise.all(shown.map((panel) => (DRAWN.includes(panel.type) ? frames(panel) : [])));
const height = Math.max(...shown.map(({ gridPos }) => (gridPos.y + gridPos.h) * CELL_HEIGHT));
const style = { position: "relative", width: 24 * CELL_WIDTH, height, background: theme.colors.background.canvas, color: theme.colors.text.primary };
createRoot(document.getElementById("root")).render(
  <ThemeContext.Provider value={theme}>
    <div style={style}>{shown.map((panel, index) => <Panel key={panel.id} panel={panel} data={data[index]} />)}</div>
  </ThemeContext.Provider>,
);
window.colour = (name) => theme.visualization.getColorByName(name);
window.isRendered = true;
