# The environment of the README's first command, which it runs unless another is given. CPU:
#   docker build -t s3prl_metaperser . && docker run --rm -v metaperser:/cache s3prl_metaperser
# CUDA, which PyPI's own torch brings (the card's driver on the host, NVIDIA's container toolkit):
#   docker build -t s3prl_metaperser:cuda --build-arg TORCH_INDEX=https://pypi.org/simple .
#   docker run --rm --gpus all -v metaperser:/cache s3prl_metaperser:cuda
FROM python:3.11-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN apt-get update && apt-get install -y --no-install-recommends ffmpeg && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY . .
RUN pip install --no-cache-dir -c constraints.txt --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple torch torchaudio \
    && pip install --no-cache-dir -c constraints.txt -e '.[demo]'
ENV METAPERSER_CACHE=/cache
VOLUME /cache
CMD ["metaperser", "demo", "/cache/demo"]
