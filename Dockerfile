# Three images of one program: docker build --target mic|nmi|csi-provider. How: docs/howto/build-images-and-releases.md
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BASE} AS build
ARG SOURCE_DATE_EPOCH=0
WORKDIR /checkout
COPY . .
RUN tools/image/build-root python3 /image

# What the three have in common. nft and iptables are for nmi; one set of layers is fetched once a node.
FROM ${BASE} AS podidentity
# hadolint ignore=DL3008 # Debian keeps one version a package: a pinned one is gone with the next security update
RUN apt-get update && \
    apt-get install -y --no-install-recommends iptables nftables && \
    apt-get clean && \
    rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log && \
    groupadd --gid 65532 podidentity && \
    useradd --uid 65532 --gid 65532 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin podidentity
COPY --from=build /image/opt/podidentity /opt/podidentity
ARG COMMIT=unknown
ARG BUILD_DATE=unknown
ENV PATH=/opt/podidentity/bin:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin \
    PODIDENTITY_COMMIT=${COMMIT} \
    PODIDENTITY_BUILD_DATE=${BUILD_DATE}
LABEL org.opencontainers.image.title="podidentity" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${COMMIT}"
USER 65532:65532

# Reads /etc/kubernetes/azure.json, which is root's: manifests that mount it set runAsUser to 0.
FROM podidentity AS mic
ENTRYPOINT ["/opt/podidentity/bin/podidentity", "mic"]

# Its socket is in a folder of root's on the node: the manifest sets runAsUser to 0, and takes every capability away.
FROM podidentity AS csi-provider
ENTRYPOINT ["/opt/podidentity/bin/podidentity", "csi-provider"]

# Writes packet filter rules: root with NET_ADMIN and NET_RAW, and DAC_READ_SEARCH for the kubelet's file.
FROM podidentity AS nmi
# hadolint ignore=DL3002 # packet filters are root's
USER 0:0
ENTRYPOINT ["/opt/podidentity/bin/podidentity", "nmi"]
