# The program and what it needs, for CPUs:
#
#   docker build --tag diffusion-ode .
#   mkdir -p runs  # or it will be root's
#   docker run --rm --volume "$PWD/runs:/app/runs" --user "$(id -u):$(id -g)" diffusion-ode --exp=digits_vp
#
# For NVIDIA GPUs: docker build --build-arg ACCELERATOR=cuda12, and docker run --gpus=all.
FROM python:3.11-slim
ARG ACCELERATOR=
WORKDIR /app
COPY requirements.txt ./
# The accelerator's packages are of the same JAX as the one that is pinned.
RUN pip install --no-cache-dir --requirement requirements.txt \
    ${ACCELERATOR:+"jax[$ACCELERATOR]==$(sed -n 's/^jax==//p' requirements.txt)"}
COPY data data
COPY diffusion_ode diffusion_ode
COPY experiments experiments
COPY launch launch
# Whoever runs it may have no home directory, and any number.
RUN mkdir --mode=1777 /data
ENV DIFFUSION_ODE_DATA=/data PYTHONUNBUFFERED=1
ENTRYPOINT ["python", "launch/run.py"]
CMD ["--list"]
