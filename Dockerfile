# The server in an image of its own: one static binary, nothing else, run by nobody in particular.
#
#   make docker_build        tags fibsrv:VERSION and fibsrv:latest
#   docker run --rm -p 3000:3000 --read-only --cap-drop ALL --security-opt no-new-privileges fibsrv

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src

# Writes the list of crates into the binary, so that scanners can tell what is in an image that has nothing else.
RUN cargo install --locked --version 0.7.7 cargo-auditable

# The C library is linked in. Without an explicit target, crt-static would reach the build scripts and macros too,
# which are loaded by the compiler and cannot be static.
ENV RUSTFLAGS="-C target-feature=+crt-static" CARGO_PROFILE_RELEASE_STRIP=symbols

# The crates are a layer of their own, made again only when these files change. Tests and benchmarks are not here,
# and what Cargo.toml says of them would be an error without their files.
COPY Cargo.toml Cargo.lock build.rs ./
RUN rustc -vV > /rustc && sed -n 's/^host: //p' /rustc > /target \
 && sed -i '/^\[\[/,/^$/d' Cargo.toml \
 && mkdir src && touch src/lib.rs && echo 'fn main() {}' > src/main.rs \
 && cargo auditable build --release --locked --target "$(cat /target)"

# Copied files keep their times, which may be older than the build above.
ARG REVISION=unknown
COPY src ./src
RUN touch src/lib.rs src/main.rs \
 && FIBSRV_REVISION="$REVISION" cargo auditable build --release --locked --target "$(cat /target)" \
 && install -D "target/$(cat /target)/release/fibsrv" /out/fibsrv

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="fibsrv" \
      org.opencontainers.image.description="The nth Fibonacci number over HTTP" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /out/fibsrv /fibsrv
# A number, as there is no file of users here; that of "nobody" belongs to others.
USER 65532:65532
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s --retries=3 CMD ["/fibsrv", "health"]
ENTRYPOINT ["/fibsrv"]
