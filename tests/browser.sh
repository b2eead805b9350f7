#!/usr/bin/env bash
# Tests the page in Chromium. With the argument `screenshot`, makes the pictures of it in docs/.
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/deploy/tools.sh

need node=nodejs npm=npm chromium=chromium
browser_tools
export BROWSER_TOOLS=$browser_tools
if [ "${1:-}" = screenshot ]; then
    need /usr/share/fonts/opentype/inter=fonts-inter /usr/share/fonts/truetype/jetbrains-mono=fonts-jetbrains-mono
    need pngquant=pngquant
    node tests/browser/screenshot.mjs
    pngquant --force --ext .png docs/page-light.png docs/page-dark.png
else
    node --test --test-reporter=spec tests/browser/page_test.mjs
fi
