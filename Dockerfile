# For trainings on NVIDIA GPUs: what `make .venv/ready` installs, without this project, which is mounted, so that its
# cache, checkpoints and results stay. docs/scaling.md says how it is called.
FROM python:3.12
WORKDIR /clipsym
COPY requirements.txt requirements-no-deps.txt ./
RUN pip install --no-cache-dir --requirement requirements.txt \
    && pip install --no-cache-dir --no-deps --requirement requirements-no-deps.txt
# The user of `docker run --user` has neither a home nor a name in the image, which caches and PyTorch ask for.
ENV HOME=/tmp USER=clipsym
CMD ["dvc", "repro"]
