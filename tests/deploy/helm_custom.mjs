// Kinds that others define, against models of them: ServiceMonitor, PrometheusRule, Certificate, HTTPRoute.
//
// Reads a list of {name, manifest} as JSON from stdin. The folder of the models is the only argument.

import { readFileSync } from "node:fs";

const KINDS = {
  Certificate: "cert-manager/cert-manager.io/v1/Certificate.js",
  HTTPRoute: "gateway-api/gateway.networking.k8s.io/v1/HTTPRoute.mjs",
  PrometheusRule: "prometheus-operator/monitoring.coreos.com/v1/PrometheusRule.js",
  ServiceMonitor: "prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor.js",
};

// What a validator must see, or it sees nothing: a change to each kind.
const SPOILT = {
  Certificate: (spec) => ({ ...spec, secretName: 1 }),
  HTTPRoute: (spec) => ({ ...spec, rules: [{ matches: [{ path: { type: "Glob", value: "/" } }] }] }),
  PrometheusRule: (spec) => ({ ...spec, groups: [{ rules: [] }] }),
  ServiceMonitor: (spec) => ({ ...spec, endpoints: [{ interval: "often" }] }),
};

const models = {};
for (const [kind, path] of Object.entries(KINDS)) {
  const module = await import(`${process.argv[2]}/node_modules/@kubernetes-models/${path}`);
  models[kind] = (module.default ?? module)[kind] ?? module[kind];
}

function complaint({ kind, apiVersion, ...rest }) {
  if (models[kind].apiVersion !== apiVersion) return `is of ${apiVersion}, not of ${models[kind].apiVersion}`;
  try {
    new models[kind](rest).validate();
    return undefined;
  } catch (error) {
    return error.message;
  }
}

const complaints = [];
const seen = {};
for (const { name, manifest } of JSON.parse(readFileSync(0, "utf8"))) {
  const { kind, spec } = manifest;
  seen[kind] = (seen[kind] ?? 0) + 1;
  const said = complaint(manifest);
  if (said) complaints.push(`${name}: ${kind} ${said}`);
  if (!complaint({ ...manifest, spec: SPOILT[kind](spec) })) complaints.push(`${name}: a spoilt ${kind} passes`);
}
for (const kind of Object.keys(KINDS)) if (!seen[kind]) complaints.push(`no file of ci/ makes a ${kind}`);

if (complaints.length > 0) {
  console.error(complaints.join("\n"));
  process.exit(1);
}
console.log(`helm: models hold for ${Object.entries(seen).map(([kind, count]) => `${count} ${kind}`).join(", ")}`);
