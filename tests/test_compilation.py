"""The compilation cache and its watch."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from suite.data.sources.datasets import Table
from suite.runtime.compilation import CompileWatch, cache_folder, enable_cache

SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
    "jax_persistent_cache_enable_xla_caches",
)


@pytest.fixture
def settings():
    from jax.experimental.compilation_cache.compilation_cache import reset_cache

    before = {name: getattr(jax.config, name) for name in SETTINGS}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    reset_cache()


def test_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "xla"
    monkeypatch.setenv("SUITE_CACHE", "off")
    assert cache_folder() is None and enable_cache() is None
    monkeypatch.delenv("SUITE_CACHE")
    assert cache_folder().parts[-3:] == (".cache", "suite", "xla")


def test_a_small_program_is_read_back(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path))
    jax.jit(lambda x: x - 1)(jnp.ones(3))  # jax has looked at its settings before
    assert enable_cache() == tmp_path / "xla"
    x = jnp.ones((5, 3))
    jax.clear_caches()
    with CompileWatch() as first:
        jax.jit(lambda x: jnp.tanh(x) * 3)(x).block_until_ready()
    jax.clear_caches()
    with CompileWatch() as second:
        jax.jit(lambda x: jnp.tanh(x) * 3)(x).block_until_ready()
    assert first.compilations == 1 and first.hits == 0 and first.misses == 1
    assert second.compilations == 1 and second.hits == 1 and second.misses == 0
    assert "1 from the cache" in second.summary()


def test_what_a_folder_of_ones_own_holds_is_of_use_in_another(settings, tmp_path):
    """As the folders of two servers, of which the second begins with what the first compiled."""
    first, second = tmp_path / "first", tmp_path / "second"
    enable_cache(first)
    jax.jit(lambda x: jnp.tanh(x) * 5)(jnp.ones((5, 3))).block_until_ready()
    shutil.copytree(first, second)
    enable_cache(second)
    x = jnp.ones((5, 3))
    with CompileWatch() as watch:
        jax.jit(lambda x: jnp.tanh(x) * 5)(x).block_until_ready()
    assert watch.hits == watch.compilations >= 1 and watch.misses == 0


def test_recompilation_is_counted():
    double = jax.jit(lambda x: x * 2)
    small, large = jnp.ones(17), jnp.ones(19)
    double(small)
    with CompileWatch() as watch:
        double(small)
        assert watch.compilations == 0
        double(large)
        assert watch.compilations == 1
    double(jnp.ones(23))
    assert watch.compilations == 1  # closed


def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "file"))
    assert enable_cache() is None


def test_off_keeps_data_in_memory_as_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUITE_CACHE", "off")
    (tmp_path / "large.csv").write_text("text,label\n" + "".join(f"a film {i},{i % 2}\n" for i in range(50)))
    table = Table(path="large.csv", in_memory=10, validation=0.0, test=0.0).open("train")
    assert len(table) == 50 and table[np.arange(2)]["text"] == ["a film 0", "a film 1"]
    assert [path.name for path in tmp_path.iterdir()] == ["large.csv"]
