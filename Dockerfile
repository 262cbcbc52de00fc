# For trainings on NVIDIA GPUs: what `make .venv/ready` installs, without this project, which is mounted, so that its
# cache, checkpoints and results stay. docs/scaling.md says how it is called.
FROM python:3.12
WORKDIR /clipsym
COPY requirements.txt requirements-no-deps.txt ./
RUN pip install --no-cache-dir --requirement requirements.txt \
    && pip install --no-cache-dir --no-deps --requirement requirements-no-deps.txt
ENV HOME=/tmp PYTHONPATH=/clipsym PYTHONUNBUFFERED=1
CMD ["dvc", "repro"]
