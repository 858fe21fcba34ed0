# The command line on a CPU. Written for any OCI builder; see docs/docker.md for how to use it and what was checked.
FROM python:3.11-slim

RUN useradd --create-home --uid 10001 maskmend
WORKDIR /opt/maskmend
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY patcher patcher
COPY models models
COPY service service
COPY clients clients
COPY samples samples
COPY benchmarks benchmarks
RUN pip install --no-cache-dir -c constraints.txt -e '.[cpu,evaluate]'

# Compiled kernels are cached where the unprivileged user may write.
ENV NUMBA_CACHE_DIR=/tmp/numba
USER maskmend
ENTRYPOINT ["maskmend"]
CMD ["--help"]
