# `maskmend serve` on a CPU. docs/docker.md: how to build and run it, and what of this was checked.

# One base for every stage: the virtual environment points at its Python.
FROM python:3.11-slim-bookworm AS base

FROM base AS builder
WORKDIR /src
# The lock holds more than the image, and pip takes a file with hashes whole or not at all. So all of it is fetched, each
# file held against its hash and none built; what is then installed comes from that folder and from nowhere else.
COPY requirements.lock ./
RUN pip download --no-cache-dir --no-deps --only-binary=:all: --require-hashes \
    --requirement=requirements.lock --dest=/wheels
COPY pyproject.toml README.md LICENSE ./
COPY patcher patcher
COPY models models
COPY service service
COPY clients clients
RUN pip wheel --no-cache-dir --no-deps --wheel-dir=/wheels .
RUN python -m venv --without-pip /opt/maskmend
# hadolint ignore=DL3013
RUN pip --python=/opt/maskmend/bin/python install --no-cache-dir --no-index --find-links=/wheels "maskmend[cpu,serve]"
RUN pip --python=/opt/maskmend/bin/python check

# docker build --target=sbom --output=. .
FROM builder AS sbom-builder
RUN pip install --no-cache-dir cyclonedx-bom==7.5.0
RUN cyclonedx-py environment --output-reproducible --spec-version=1.6 --output-format=JSON \
    --output-file=/sbom.json /opt/maskmend/bin/python
FROM scratch AS sbom
COPY --from=sbom-builder /sbom.json /sbom.json

FROM base AS runtime
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="maskmend" \
      org.opencontainers.image.description="Refines coarse instance masks, over HTTP and gRPC, on a CPU" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=builder /opt/maskmend /opt/maskmend
# Kernels are compiled at every start, onto a tmpfs where the root is read-only: numba passes over a folder it cannot write,
# so a cache baked into the image would not be read. Without a home folder OpenVINO reports no usage, and does not fail.
ENV PATH="/opt/maskmend/bin:$PATH" \
    NUMBA_CACHE_DIR="/tmp/numba" \
    HOME="/nonexistent"
USER 10001:10001
WORKDIR /
EXPOSE 8000 8001
STOPSIGNAL SIGTERM
# Not urllib, which would ask a proxy of the environment. The certificate is not checked: it is for another name.
HEALTHCHECK --interval=15s --timeout=12s --start-period=180s --retries=3 \
    CMD ["python", "-c", "import http.client as h, os, ssl, sys; e = os.environ; at = ('127.0.0.1', int(e.get('MASKMEND_PORT', '8000'))); c = h.HTTPSConnection(*at, timeout=10, context=ssl._create_unverified_context()) if 'MASKMEND_TLS_CERT' in e else h.HTTPConnection(*at, timeout=10); c.request('GET', '/healthz/ready'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["maskmend"]
CMD ["serve", "--host", "0.0.0.0"]
