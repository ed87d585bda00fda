# suite serve in a container: docker build -t suite-serve . && docker run -p 8080:8080 -v "$PWD/bundles:/bundles:ro" suite-serve
# Bundles are mounted, not copied, so a new version in the folder is taken up without a restart.

FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY suite suite
COPY tasks tasks
COPY configs configs
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
COPY --from=build /wheels /wheels
COPY constraints.txt /wheels/constraints.txt
ARG EXTRAS=serve,cpu
RUN wheel="$(echo /wheels/*.whl)" \
    && pip install --no-cache-dir -c /wheels/constraints.txt "${wheel}[${EXTRAS}]" \
    && rm -r /wheels \
    && useradd --create-home --uid 10001 suite
USER suite
WORKDIR /home/suite
ENV PYTHONUNBUFFERED=1 SUITE_CACHE=/home/suite/cache
EXPOSE 8080
VOLUME /bundles
# /readyz answers 200 once every model is compiled.
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/readyz', timeout=4)"]
ENTRYPOINT ["suite", "serve", "--host", "0.0.0.0", "--port", "8080"]
CMD ["/bundles"]
