#!/usr/bin/env bash
# Tests rules, dashboards and metric names with a real server under load and a real Prometheus.
#
#   monitoring_test.sh [PICTURE.png]     also makes a picture of the dashboard
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/deploy/tools.sh

need prometheus=prometheus promtool=prometheus python3=python3 pip=python3-pip node=nodejs npm=npm chromium=chromium
python_tools
dashboard_tools
grafana_tools
browser_tools
export DASHBOARD_TOOLS=$grafana_tools BROWSER_TOOLS=$browser_tools

prometheus/mixin.py --check
python tests/deploy/compose_policy.py
promtool check config prometheus/prometheus.yml >/dev/null
promtool check rules --lint=all prometheus/rules/*.yml prometheus/meta_monitoring.yml >/dev/null
promtool test rules prometheus/tests/*.yml >/dev/null || { promtool test rules prometheus/tests/*.yml; exit 1; }
echo "monitoring: promtool accepts the configuration, rules and rule tests"
python tests/deploy/alerts_test.py

# Type-checks dashboards against Grafana's TypeScript types, with enumerations as literals.
files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT
ln -s "$dashboards/node_modules" "$files/node_modules"
cat >"$files/plain.ts" <<'TYPES'
import type { Dashboard } from '@grafana/schema';
type Plain<T> = T extends string ? `${T}` : T extends (infer U)[] ? Plain<U>[] : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
// Fields of an annotation that the data source adds.
type Query = { expr?: string; step?: string; titleFormat?: string; textFormat?: string; tagKeys?: string };
type Annotations = NonNullable<NonNullable<Dashboard['annotations']>['list']>[number];
export type PlainDashboard = Plain<Omit<Dashboard, 'annotations'> & { annotations: { list: (Annotations & Query)[] } }>;
TYPES
type_check() { # type_check NAME: the dashboard is on stdin.
    {
        echo "import type { PlainDashboard } from './plain';"
        printf 'export const dashboard: PlainDashboard = '
        cat
    } >"$files/$1.ts"
    "$dashboards/node_modules/.bin/tsc" --noEmit --skipLibCheck --strict --moduleResolution node --module esnext \
        --target es2022 "$files/$1.ts"
}
for dashboard in deploy/grafana/dashboards/*.json; do
    type_check dashboard <"$dashboard"
    if sed '0,/"unit": "/s//"unit": 7, "was": "/' "$dashboard" | type_check invalid >/dev/null; then
        echo "monitoring: an invalid dashboard is accepted" >&2
        exit 1
    fi
done
echo "monitoring: dashboards match Grafana's types"

python tests/deploy/monitoring_live.py "$@"
