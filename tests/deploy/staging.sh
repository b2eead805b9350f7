#!/usr/bin/env bash
# Failure drills on the complete production setup, then the operations dashboard drawn from their data.
#
#   staging.sh [PICTURE.png]     also makes a picture of the dashboard
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/deploy/tools.sh

need node=nodejs npm=npm chromium=chromium
grafana_tools
browser_tools
export DASHBOARD_TOOLS=$grafana_tools BROWSER_TOOLS=$browser_tools

tests/deploy/staging_test.py
node tests/dashboard/dashboard_test.mjs target/staging/operations.json deploy/grafana/dashboards/operations.json "$@"
