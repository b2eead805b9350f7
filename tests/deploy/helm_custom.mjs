// Validates custom resources against their models: ServiceMonitor, PrometheusRule, Certificate, HTTPRoute.
//
// Reads a list of {name, manifest} as JSON from stdin. The only argument is the directory of the models.

import { readFileSync } from "node:fs";

const KINDS = {
  Certificate: "cert-manager/cert-manager.io/v1/Certificate.js",
  HTTPRoute: "gateway-api/gateway.networking.k8s.io/v1/HTTPRoute.mjs",
  PrometheusRule: "prometheus-operator/monitoring.coreos.com/v1/PrometheusRule.js",
  ServiceMonitor: "prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor.js",
};

// An invalid variant of each kind, which the validator must reject.
const INVALID = {
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

function validationError({ kind, apiVersion, ...rest }) {
  if (models[kind].apiVersion !== apiVersion) return `is of ${apiVersion}, not of ${models[kind].apiVersion}`;
  try {
    new models[kind](rest).validate();
    return undefined;
  } catch (error) {
    return error.message;
  }
}

const errors = [];
const seen = {};
for (const { name, manifest } of JSON.parse(readFileSync(0, "utf8"))) {
  const { kind, spec } = manifest;
  seen[kind] = (seen[kind] ?? 0) + 1;
  const error = validationError(manifest);
  if (error) errors.push(`${name}: ${kind} ${error}`);
  if (!validationError({ ...manifest, spec: INVALID[kind](spec) })) errors.push(`${name}: an invalid ${kind} is accepted`);
}
for (const kind of Object.keys(KINDS)) if (!seen[kind]) errors.push(`no file of ci/ renders a ${kind}`);

if (errors.length > 0) {
  console.error(errors.join("\n"));
  process.exit(1);
}
console.log(`helm: models hold for ${Object.entries(seen).map(([kind, count]) => `${count} ${kind}`).join(", ")}`);
