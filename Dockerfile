# One static binary in an empty image, run as UID 65532.
#
#   make docker_build        tags fibsrv:VERSION and fibsrv:latest
#   docker run --rm -p 3000:3000 --read-only --cap-drop ALL --security-opt no-new-privileges fibsrv

# Another base, for example of a mirror: --build-arg BUILDER=...
ARG BUILDER=rust:1.95-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082
FROM ${BUILDER} AS build
WORKDIR /src

# Embeds the list of crates into the binary, for vulnerability scanners and SBOM tools.
RUN cargo install --locked --version 0.7.7 cargo-auditable

# Links the C library statically. Without an explicit target, crt-static would apply to build scripts and procedural
# macros too, which cannot be static. The target is that of the base image, and so of the platform.
ENV RUSTFLAGS="-C target-feature=+crt-static" CARGO_PROFILE_RELEASE_STRIP=symbols

# Dependencies are a layer of their own, rebuilt only when these files change. Test and bench targets are removed from
# Cargo.toml, as their files are not copied.
COPY Cargo.toml Cargo.lock build.rs ./
COPY src/app/assets ./src/app/assets
RUN rustc -vV > /rustc && sed -n 's/^host: //p' /rustc > /target \
 && sed -i '/^\[\[/,/^$/d' Cargo.toml \
 && touch src/lib.rs && echo 'fn main() {}' > src/main.rs \
 && cargo auditable build --release --locked --target "$(cat /target)"

# COPY keeps modification times, which may be older than the build above.
ARG REVISION=unknown
# Time of the commit, of the file and, with BuildKit, of the image.
ARG SOURCE_DATE_EPOCH=0
COPY src ./src
RUN touch src/lib.rs src/main.rs \
 && FIBSRV_REVISION="$REVISION" cargo auditable build --release --locked --target "$(cat /target)" \
 && install -D "target/$(cat /target)/release/fibsrv" /out/fibsrv \
 && touch --date "@$SOURCE_DATE_EPOCH" /out/fibsrv /out

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=https://git.example.org/fibsrv
LABEL org.opencontainers.image.title="fibsrv" \
      org.opencontainers.image.description="The nth Fibonacci number over HTTP" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /out/fibsrv /fibsrv
# Numeric, as there is no /etc/passwd.
USER 65532:65532
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s --retries=3 CMD ["/fibsrv", "health"]
ENTRYPOINT ["/fibsrv"]
