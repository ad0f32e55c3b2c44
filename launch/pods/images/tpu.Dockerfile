# movinet on Cloud TPUs, as pods of GKE or on TPU virtual machines. From the repository:
#
#   docker build --file=launch/pods/images/tpu.Dockerfile --tag=IMAGE .
#   docker push IMAGE
FROM python:3.12-slim

# tini passes signals on: a process that is number 1 by itself would not be stopped by them.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends tini \
  && rm -rf /var/lib/apt/lists/*

WORKDIR /movinet
# First what changes rarely. libtpu comes with the wheels.
COPY requirements.txt ./
RUN pip install --no-cache-dir --requirement=requirements.txt "jax[tpu]>=0.10,<1"
COPY pyproject.toml README.md ./
COPY movinet_jax movinet_jax
COPY nas nas
COPY configs configs
COPY launch launch
RUN pip install --no-cache-dir --no-deps --editable=.

ENV PYTHONUNBUFFERED=1
ENTRYPOINT ["tini", "--", "movinet"]
CMD ["--help"]
