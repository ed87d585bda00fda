"""The doctor's faults, each with its fix, on machines made up for the purpose."""

import importlib.metadata
import json
import sys
from types import SimpleNamespace

import pytest

from suite import distribution
from suite.workflow import doctor as module
from suite.workflow.doctor import doctor, render


@pytest.fixture(autouse=True)
def plain_machine(monkeypatch, tmp_path):
    """A machine without accelerators, data folders or a shared cache."""
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))
    for variable in ("TFDS_DATA_DIR", "SUITE_DATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(module, "gpu_present", lambda: False)
    monkeypatch.setattr(module, "tpu_present", lambda: False)


def faults(report):
    return {row["fault"]: row["fix"] for row in report["faults"]}


def test_report_is_complete_and_json():
    report = doctor()
    assert json.loads(json.dumps(report)) == report
    text = render(report)
    names = {row["name"] for row in report["packages"]}
    assert {"jax", "flax", "orbax-checkpoint", "tyro"} <= names
    assert {"cuda12", "tpu", "prepare", "test"} <= set(report["extras"])
    assert all(name in text for name in names) and "cores" in text and "free in" in text
    assert report["devices"]["found"]


def test_what_convolves(monkeypatch):
    from suite.nn.cpu import library, onednn

    monkeypatch.setattr(onednn, "version", lambda: "3.2.0")
    assert doctor()["convolutions"] == {"onednn": "3.2.0", "reason": "", "fix": ""}
    assert "\n  convolutions on a processor by oneDNN 3.2.0\n" in render(doctor())
    monkeypatch.setattr(onednn, "version", lambda: None)
    for why, fix in (("it is not installed", distribution.install("cpu")), ("it is used on Linux only", "")):
        monkeypatch.setattr(library, "find", lambda why=why, fix=fix: library.Unused(why, fix))
        report = doctor()
        assert report["convolutions"] == {"onednn": None, "reason": why, "fix": fix} and not report["faults"]
        text = f"\n  convolutions on a processor by XLA, not by oneDNN, which is faster: {why}\n"
        assert (text + f"    try: {fix}\n" if fix else text) in render(report)


def test_an_installed_library_is_not_to_be_installed(monkeypatch):
    from suite.nn.cpu import native, onednn

    monkeypatch.delenv("SUITE_ONEDNN", raising=False)
    monkeypatch.setattr(onednn, "_library", onednn._library.__wrapped__)
    monkeypatch.setattr(native, "version", lambda: (0, 99))
    text = render(doctor())
    assert "XLA's foreign-function interface in jaxlib" in text and "is 0.99; supported: " in text
    assert "[cpu]" not in text


def test_requirements_of_a_checkout():
    report = doctor()
    assert {"jax", "grain"} <= {row["name"] for row in report["packages"]}
    assert {"cuda12", "cpu", "test"} <= set(report["extras"])


def test_what_another_platform_needs_is_not_missing(monkeypatch):
    texts = ["jax>=0.10", 'odd>=1; sys_platform == "plan9"', 'odd-too; sys_platform == "plan9" and extra == "odd"']
    monkeypatch.setattr(distribution, "requirements", lambda: texts)
    report = doctor()
    assert [row["name"] for row in report["packages"]] == ["jax"] and not report["faults"]
    assert not any(row["missing"] for row in report["extras"].values())


def test_old_and_missing_packages(monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name == "grain":
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.4.1" if name == "jax" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = faults(doctor())
    [jax_fault] = [fault for fault in found if fault.startswith("jax is version 0.4.1; needed: ")]
    assert found[jax_fault].startswith("pip install -c constraints.txt 'jax")
    assert any(fault.startswith("grain is missing") for fault in found)
    assert "fault" in render(doctor())


def test_python_too_new(monkeypatch):
    monkeypatch.setattr(module, "sys", SimpleNamespace(version_info=(3, 15, 0)))
    assert any("needed: 3.11 to 3.13" in fault for fault in faults(doctor()))


def test_accelerators_that_jax_does_not_use(monkeypatch):
    monkeypatch.setattr(module, "gpu_present", lambda: True)
    monkeypatch.setattr(module, "tpu_present", lambda: True)
    fixes = faults(doctor()).values()
    if doctor()["devices"]["found"][0]["platform"] == "cpu":
        assert distribution.install("cuda12") in fixes and distribution.install("tpu") in fixes


def test_a_broken_backend(monkeypatch):
    def devices():
        raise RuntimeError("driver too old\nmore")

    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(devices=devices))
    report = doctor()
    assert report["devices"]["found"] == []
    assert "jax finds no device: driver too old" in faults(report)


def test_full_disk(monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20))
    assert any(fault.startswith("only 0.0 GiB free") for fault in faults(doctor()))


def test_data_folders(monkeypatch, tmp_path):
    for path in ("glue/sst2/2.0.0", "fashion_mnist/3.0.1"):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "dataset_info.json").write_text("{}")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SUITE_DATA", str(tmp_path / "none"))
    report = doctor()
    assert report["data"][0]["prepared"] == ["fashion_mnist:3.0.1", "glue/sst2:2.0.0"]
    [fault] = [fault for fault in faults(report) if "SUITE_DATA" in fault]
    assert "which is no folder" in fault
    assert "glue/sst2:2.0.0" in render(report)
