# catprune on processors, without a compiler in the image:
#   docker build -t catprune .
#   docker run --rm -it -u "$(id -u):$(id -g)" -v "$PWD:/data" catprune prune wmt.en wmt.de pruned.en pruned.de
FROM rust:1-slim-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && python3 -m venv /tools \
    && /tools/bin/pip install --no-cache-dir "maturin>=1.9,<2"
WORKDIR /source
COPY . .
RUN /tools/bin/maturin build --release --out /dist

FROM python:3.13-slim-bookworm
ARG EXTRAS=torch,evaluate,report
# On x86_64, the default torch brings the CUDA libraries, several GB. Give the index of its builds for processors to
# leave them out: docker build --build-arg PIP_EXTRA_INDEX_URL=...
ARG PIP_EXTRA_INDEX_URL
COPY --from=build /dist /dist
RUN pip install --no-cache-dir "$(echo /dist/*.whl)[${EXTRAS}]" && rm -r /dist
# The folder of the run and its temporary files are on the mounted disk.
WORKDIR /data
ENTRYPOINT ["catprune"]
CMD ["--help"]
