# On a CPU:  docker build -t inpainting .
#            docker run --rm -v "$PWD/runs:/suite/runs" inpainting python3 -m glcic.train quick
# On a GPU:  docker build --build-arg BASE=paddlepaddle/paddle:3.0.0-gpu-cuda12.6-cudnn9.5-trt10.5 -t inpainting .
#            docker run --rm --gpus all --shm-size 8g -v "$PWD/runs:/suite/runs" inpainting python3 -m glcic.train quick
#
# BASE is any image with Python 3.10 to 3.13; one that has a Paddle already, as the GPU images of Paddle, keeps it.
ARG BASE=python:3.11-slim
FROM ${BASE}

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /suite
COPY . .
RUN if python3 -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("paddle") is None)'; \
    then python3 -m pip install --no-cache-dir -e .; \
    else python3 -m pip install --no-cache-dir -e ".[cpu]"; fi

CMD ["python3", "-m", "common.doctor"]
