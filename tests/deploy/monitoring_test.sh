#!/usr/bin/env bash
# Rules, dashboards and documents about metrics, against a real server that a real Prometheus scrapes under load.
#
#   monitoring_test.sh [PICTURE.svg]     also draws what Prometheus has gathered
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/deploy/tools.sh

need prometheus=prometheus promtool=prometheus python3=python3 pip=python3-pip node=nodejs npm=npm
python_tools
dashboard_tools

promtool check config prometheus/prometheus.yml >/dev/null
promtool check rules --lint=all prometheus/rules/*.yml prometheus/watchers.yml >/dev/null
promtool test rules prometheus/tests/*.yml >/dev/null || { promtool test rules prometheus/tests/*.yml; exit 1; }
echo "monitoring: configuration and rules are what promtool expects"

# A dashboard as the constant that Grafana's own types say it is, with the values of enumerations written out.
files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT
ln -s "$dashboards/node_modules" "$files/node_modules"
cat >"$files/plain.ts" <<'TYPES'
import type { Dashboard } from '@grafana/schema';
type Plain<T> = T extends string ? `${T}` : T extends (infer U)[] ? Plain<U>[] : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
export type PlainDashboard = Plain<Dashboard>;
TYPES
typed() { # typed NAME: whether the dashboard on stdin is one.
    {
        echo "import type { PlainDashboard } from './plain';"
        printf 'export const dashboard: PlainDashboard = '
        cat
    } >"$files/$1.ts"
    "$dashboards/node_modules/.bin/tsc" --noEmit --skipLibCheck --strict --moduleResolution node --module esnext \
        --target es2022 "$files/$1.ts"
}
for dashboard in deploy/grafana/dashboards/*.json; do
    typed dashboard <"$dashboard"
    if sed '0,/"unit": "/s//"unit": 7, "was": "/' "$dashboard" | typed spoilt >/dev/null; then
        echo "monitoring: a spoilt dashboard passes" >&2
        exit 1
    fi
done
echo "monitoring: dashboards are of Grafana's types"

python tests/deploy/monitoring.py "$@"
