# shellcheck shell=bash
# To be sourced after tools.sh: builds the cluster's programs and images. The first run takes many minutes.

# The five Kubernetes programs, built from Debian's source package. (Newer versions of the package contain only the client.)
# The compiler cache is kept, so that an interrupted build can continue.
kubernetes_programs() {
    need go=golang-go rsync=rsync jq=jq dpkg-source=dpkg-dev make=make
    programs=$cache/kubernetes-1.20.2
    once "$(basename "$programs")" build_kubernetes
}

build_kubernetes() {
    local here=$PWD options=() name
    mkdir -p lists/partial sources temporary
    # Uses deb-src variants of Debian's entries, without changing the host's configuration.
    for name in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
        [ -e "$name" ] || continue
        sed -e 's/^Types: .*/Types: deb-src/' -e '/^deb-src /d' -e 's/^deb /deb-src /' "$name" \
            >"sources/$(basename "$name" .list | sed 's/^sources$/&.list/')"
    done
    options=(-o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$here/sources" -o Dir::State::Lists="$here/lists"
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root)
    apt-get -qq "${options[@]}" update
    apt-get -qq "${options[@]}" source kubernetes >/dev/null
    mv kubernetes-*/ tree
    # GOPATH layout, and the output directory of Kubernetes.
    mkdir -p tree/.go/src/k8s.io tree/_output/local/go "$cache/go-build"
    ln -s "$cache/go-build" tree/_output/local/go/cache
    ln -s ../../.. tree/.go/src/k8s.io/kubernetes
    (
        export GOPATH=$here/tree/.go TMPDIR=$here/temporary CGO_ENABLED=0 GOFLAGS=-p=2
        PATH=/usr/lib/go/bin:$PATH
        nice -n 19 make -C tree WHAT="$(printf 'cmd/%s ' kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy)"
    ) >build.log 2>&1 || { tail -30 build.log >&2; return 1; }
    mv tree/_output/local/bin/linux/*/kube* .
    rm -rf "$cache/go-build" tree lists sources temporary ./*.tar.* ./*.dsc
}

# The server image as an archive: a static binary, or K8S_IMAGE made by `docker save`.
server_image() {
    local target archive=$1 name=$2
    if [ -n "${K8S_IMAGE:-}" ]; then
        cp "$K8S_IMAGE" "$archive"
        return
    fi
    target=$(rustc -vV | sed -n 's/^host: //p')
    RUSTFLAGS="-C target-feature=+crt-static" nice -n 19 \
        cargo build --quiet --release --locked --target "$target" --target-dir "$cache/static"
    cp "$cache/static/$target/release/fibsrv" "$work/fibsrv"
    python3 tests/deploy/k8s/image.py "$archive" "$name" "$work/fibsrv" 65532:65532
}

# The pause image, which holds the namespaces of a pod.
pause_image() {
    need cc=gcc
    echo 'int pause(void); int main(void) { for (;;) pause(); }' | cc -x c -Os -static -s -o "$work/pause" -
    python3 tests/deploy/k8s/image.py "$1" "$2" "$work/pause" 65535:65535
}
