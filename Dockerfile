# The environment, pinned from the OS up: `make image` (VARIANT=cpu or cuda).
#
# What holds what: the base by digest, apt packages by a dated snapshot, Python by its patch
# version, every wheel by SHA-256 from docker/lock-$VARIANT.txt. Where the digests come from and
# how to check them: docs/container.md, docker/check-base.sh.
ARG VARIANT=cuda
# torch 2.13.0 of the cuda lock is built for CUDA 13.0; the driver must be of the 580 line or newer.
ARG CUDA_BASE=nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04@sha256:14d94b039cb94bbd5da559f303b46bc4b0d5d6c24ab1a9d7b186e566ed3400dc
ARG CPU_BASE=python:3.11.13-slim-bookworm@sha256:86adf8dbadc3d6e82ee5dd2c74bec2e1c2467cdad47886280501df722372d2e1

FROM ${CUDA_BASE} AS base-cuda
FROM ${CPU_BASE} AS base-cpu
FROM base-${VARIANT} AS base

# A wheelhouse, for a build without PyPI: --build-context wheels=FOLDER
FROM scratch AS wheels

FROM base AS builder
ARG VARIANT
ARG PYTHON_VERSION=3.11.13
ARG APT_SNAPSHOT=20261101T000000Z
ARG APT_PYTHON=""
WORKDIR /workspace
COPY docker/apt.sh docker/
RUN --mount=type=tmpfs,target=/var/lib/apt/lists --mount=type=tmpfs,target=/var/cache \
    --mount=type=tmpfs,target=/var/log \
    touch /begun && docker/apt.sh "$APT_SNAPSHOT" ca-certificates ${APT_PYTHON:-python3}
COPY docker/install.sh docker/uv.sh docker/fetch_uv.py docker/pip_settings.py docker/byte_code.sh \
     docker/lock-uv.txt docker/lock-${VARIANT}.txt docker/
# pip's settings and the certificates of who builds come as secrets and stay out of the image.
# install.sh is what makes .venv on a host, too: there is one way to an environment. uv would note
# when it first saw a wheel of the build context (uv_cache.json): other bits in every build.
RUN --mount=type=cache,target=/root/.cache/uv,sharing=locked \
    --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=certificates,target=/run/certificates.crt \
    UV_NO_INSTALLER_METADATA=1 UV_PYTHON_INSTALL_DIR=/opt/python SAIGEN_VENV=/opt/saigen \
    SAIGEN_PYTHON_VERSION="$PYTHON_VERSION" PIP_FIND_LINKS=/wheels \
    docker/install.sh && docker/byte_code.sh /opt/saigen && rm -rf .saigen
COPY docker/entrypoint.sh docker/settle.sh docker/
RUN mkdir -p /layers/environment/opt && mv /opt/saigen /layers/environment/opt/ && \
    if [ -d /opt/python ]; then mv /opt/python /layers/environment/opt/; fi && \
    cp docker/entrypoint.sh /layers/environment/opt/saigen/ && docker/settle.sh /layers /begun
COPY . /layers/project/workspace
RUN chmod -R a+rwX /layers/project && docker/settle.sh /layers/project

FROM base
ARG VARIANT
ARG APT_SNAPSHOT=20261101T000000Z
ARG APT_PYTHON=""
ARG UID=1000
ARG GID=1000
RUN --mount=type=bind,source=docker,target=/run/docker \
    --mount=type=tmpfs,target=/var/lib/apt/lists --mount=type=tmpfs,target=/var/cache \
    --mount=type=tmpfs,target=/var/log \
    touch /var/log/begun && \
    /run/docker/apt.sh "$APT_SNAPSHOT" ca-certificates git make tini $APT_PYTHON && \
    git config --system safe.directory /workspace && \
    { getent group $GID >/dev/null || echo "saigen:x:$GID:" >>/etc/group; } && \
    { getent passwd $UID >/dev/null || \
      echo "saigen:x:$UID:$GID::/tmp/home:/bin/bash" >>/etc/passwd; } && \
    /run/docker/settle.sh / /var/log/begun
COPY --from=builder /layers/environment /
COPY --from=builder /layers/project /
WORKDIR /workspace
# LOGNAME: Python's getpass asks for a name, and an arbitrary UID has none in /etc/passwd
ENV SAIGEN_ENVIRONMENT=container VARIANT=${VARIANT} PATH=/opt/saigen/bin:$PATH HOME=/tmp/home \
    LOGNAME=anybody \
    PYTHONDONTWRITEBYTECODE=1 DVC_NO_ANALYTICS=1 DVC_SITE_CACHE_DIR=/tmp/dvc LANG=C.UTF-8
ARG COMMIT=unknown
ARG LOCK_SHA256=unknown
LABEL org.opencontainers.image.title=saigen \
      org.opencontainers.image.revision=${COMMIT} \
      saigen.variant=${VARIANT} saigen.lock.sha256=${LOCK_SHA256}
ENV SAIGEN_IMAGE_COMMIT=${COMMIT} SAIGEN_IMAGE_LOCK=${LOCK_SHA256}
USER ${UID}:${GID}
ENTRYPOINT ["tini", "-g", "--", "/opt/saigen/entrypoint.sh"]
CMD ["bash"]
