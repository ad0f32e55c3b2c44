# movinet on NVIDIA GPUs, and on machines without an accelerator. From the repository:
#
#   docker build --file=launch/pods/images/gpu.Dockerfile --tag=IMAGE .
#   docker push IMAGE
FROM python:3.12-slim

# tini passes signals on: a process that is number 1 by itself would not be stopped by them.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends tini \
  && rm -rf /var/lib/apt/lists/*

WORKDIR /movinet
# First what changes rarely. CUDA comes with the wheels; the host has the driver, 580 or newer.
COPY requirements.txt ./
RUN pip install --no-cache-dir --requirement=requirements.txt "jax[cuda13]>=0.10,<1"
COPY pyproject.toml README.md ./
COPY movinet_jax movinet_jax
COPY nas nas
COPY configs configs
COPY launch launch
RUN pip install --no-cache-dir --no-deps --editable=.

# GKE puts the driver there and tells nobody; elsewhere the container runtime asks for these.
ENV LD_LIBRARY_PATH=/usr/local/nvidia/lib64
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ENV PYTHONUNBUFFERED=1
ENTRYPOINT ["tini", "--", "movinet"]
CMD ["--help"]
