"""Launch scripts: their commands, as dry runs print them."""

import subprocess

import yaml

from suite.parallel.rendezvous import Place, find_place
from tests.conftest import ROOT


def dry(script, *arguments, code=0):
    path = str(ROOT / "scripts" / "launch" / script)
    assert subprocess.run(["bash", "-n", path], capture_output=True).returncode == 0
    done = subprocess.run([path, "--dry-run", *arguments], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_the_job_for_slurm():
    job = dry(
        "slurm",
        "--nodes",
        "4",
        "--gpus-per-node",
        "8",
        "--run-dir",
        "/net/run 1",
        "--",
        "vision.imagenet_resnet50",
        "--train.seed",
        "3",
    )
    assert subprocess.run(["bash", "-n"], input=job, text=True, capture_output=True).returncode == 0
    assert {
        "#SBATCH --nodes=4",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --gpus-per-node=8",
        "#SBATCH --requeue",
    } <= set(job.splitlines())
    assert r"suite train vision.imagenet_resnet50 --train.seed 3 --run-dir /net/run\ 1 --continue" in job
    commands = 'srun() { return $CODE; }; scontrol() { echo "$@"; }; eval "$JOB"'
    for code, before, requeued in [
        (0, 0, ""),
        (2, 0, ""),
        (75, 0, "requeue 7\n"),
        (75, 20, ""),
        (134, 3, "requeue 7\n"),
    ]:
        variables = {"JOB": job, "CODE": str(code), "SLURM_RESTART_COUNT": str(before), "SLURM_JOB_ID": "7"}
        done = subprocess.run(["bash", "-c", commands], capture_output=True, text=True, env=variables)
        assert (done.returncode, done.stdout) == (code, requeued), (code, done)
    assert 'slurm: --nodes "" is no number of hosts' in dry("slurm", "--run-dir", "r", "--", "x", code=2)


def test_the_jobset_for_gke():
    printed = dry(
        "gke",
        "--name",
        "hello",
        "--hosts",
        "8",
        "--image",
        "repo/suite:1",
        "--claim",
        "runs",
        "--tpu",
        "tpu-v5-lite-podslice",
        "--topology",
        "4x8",
        "--chips-per-host",
        "4",
        "--",
        "text.sst2_encoder",
        "--name",
        'a "b" \\c',
    )
    jobset = yaml.safe_load(printed)
    (job,) = jobset["spec"]["replicatedJobs"]
    inner = job["template"]["spec"]
    assert (jobset["kind"], inner["completionMode"]) == ("JobSet", "Indexed")
    assert inner["parallelism"] == inner["completions"] == 8
    pod = inner["template"]["spec"]
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "4x8"
    (container,) = pod["containers"]
    assert container["command"] == [
        "suite",
        "train",
        "text.sst2_encoder",
        "--name",
        'a "b" \\c',
        "--run-dir",
        "/runs/hello",
        "--continue",
    ]
    assert container["resources"]["limits"] == {"google.com/tpu": "4"}
    variables = {entry["name"]: entry.get("value", "1") for entry in container["env"]}
    assert find_place({}, variables) == Place("hello-host-0-0.hello:8476", 8, 1)
    plain = yaml.safe_load(
        dry("gke", "--name", "g", "--hosts", "2", "--image", "i", "--claim", "c", "--gpus-per-host", "8", "--", "x")
    )
    (container,) = plain["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "8"}
    assert "gke: --claim is missing" in dry("gke", "--name", "g", "--hosts", "2", "--image", "i", "--", "x", code=2)


def test_the_commands_for_a_tpu_pod():
    printed = dry(
        "tpu_pod",
        "--name",
        "pod",
        "--zone",
        "us-west4-a",
        "--type",
        "v5litepod-32",
        "--nfs",
        "10.0.0.2:/share",
        "--spot",
        "--",
        "text.sst2_encoder",
        "--train.seed",
        "3",
    )
    assert subprocess.run(["bash", "-n"], input=printed, text=True, capture_output=True).returncode == 0
    create, _, scp, install, train, *_, delete = [line for line in printed.splitlines() if line.startswith("g")]
    assert create == (
        "gcloud compute tpus tpu-vm create pod --accelerator-type v5litepod-32 "
        "--version tpu-ubuntu2204-base --spot --zone us-west4-a "
    )
    assert "--worker=all" in scp and "--worker=all" in install and "--worker=all" in train
    assert r"train\ text.sst2_encoder\ --train.seed\ 3\ --run-dir\ /mnt/suite/pod\ --continue" in train
    assert delete.startswith("gcloud compute tpus tpu-vm delete pod")
    assert "tpu_pod: --nfs is missing" in dry("tpu_pod", "--name", "p", "--zone", "z", "--type", "t", "--", "x", code=2)
