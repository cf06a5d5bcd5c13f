"""Engines for real: submitit's local executor with a preemption, a local Ray, the Open Job Description model."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from films import TOYS, write_film
from in_process import hmrkit

from hmrkit.batches.journal import latest
from hmrkit.batches.submit import Task
from hmrkit.batches.submit.openjd import job_template

QUICK = [*TOYS, "--mesh", "toy", "--shape", "mesh", "--format", "npz"]


@pytest.fixture
def films(tmp_path):
    paths = [write_film(tmp_path / f"f{k}.mp4", frames=3) for k in range(3)]
    (tmp_path / "list.txt").write_text("\n".join(map(str, paths)))
    return tmp_path / "list.txt"


def test_the_template_runs_chunks_of_clips_as_shards(films, tmp_path):
    template = tmp_path / "job.json"
    result = hmrkit("submit", "openjd", "--input-list", films, "-o", "out", "--template", template, "--", *QUICK)
    assert (result.returncode, f"-p InputList={films}" in result.stderr) == (0, True), result
    job = json.loads(template.read_text())
    assert job == job_template(Task("", "", QUICK), clips=3, chunk=20, gpus=1)
    (step,) = job["steps"]
    run = step["script"]["actions"]["onRun"]
    at = run["args"].index("--shard")
    assert run["args"][at + 1] == "{{Task.Param.Clip}}/{{Param.Clips}}"
    assert step["hostRequirements"]["amounts"][0] == {"name": "amount.worker.gpu", "min": 1}


@pytest.mark.parametrize("words", [["--shard", "1/2"], ["--out", "other"], ["--input-list", "other.txt"], ["clip.mp4"]])
def test_what_submit_gives_every_task_cannot_be_given_again(words, films, tmp_path):
    result = hmrkit("submit", "openjd", "--input-list", films, "--template", tmp_path / "job.json", "--", *words)
    assert (result.returncode, (tmp_path / "job.json").exists()) == (2, False)
    assert f"another among the options of `hmrkit run`: {' '.join(words)}" in result.stderr


def test_the_checker_accepts_the_template():
    model = pytest.importorskip("openjd.model")
    template = job_template(Task("list.txt", "out", ["--people", "2"]), clips=100_000, chunk=20)
    decoded = model.decode_job_template(template=template, supported_extensions=["TASK_CHUNKING"])
    values = {"InputList": "/l", "OutputFolder": "/o"}
    parameters = {name: model.ParameterValue(type=model.ParameterValueType.PATH, value=v) for name, v in values.items()}
    for name, default in (("Clips", "100000"), ("ClipsPerChunk", "20")):
        parameters[name] = model.ParameterValue(type=model.ParameterValueType.INT, value=default)
    (step,) = model.create_job(job_template=decoded, job_parameter_values=parameters).steps
    chunks = iter(model.StepParameterSpaceIterator(space=step.parameterSpace))
    assert next(chunks)["Clip"].value == "1-20"


@pytest.mark.parametrize("engine", ["slurm", "openjd", "ray"])
def test_options_of_the_run_are_checked_at_once(engine, films):
    if engine != "openjd":
        pytest.importorskip({"slurm": "submitit", "ray": "ray"}[engine])
    result = hmrkit("submit", engine, "--input-list", films, "--", "--methd", "fit")
    assert (result.returncode, "No such option: --methd" in result.stderr) == (2, True)


def child_of(process):
    """The process id of what a controller runs."""
    return int(Path(f"/proc/{process}/task/{process}/children").read_text().split()[0])


def test_a_preempted_slurm_job_goes_on_in_the_queue(tmp_path):
    pytest.importorskip("submitit")
    from hmrkit.batches.submit.slurm import submit_slurm

    film = write_film(tmp_path / "long.mp4", frames=600)
    (tmp_path / "list.txt").write_text(str(film))
    task = Task(str(tmp_path / "list.txt"), str(tmp_path / "out"), QUICK)
    (job,) = submit_slurm(task, 1, tmp_path / "logs", "local", {"timeout_min": 2})
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / "long").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    os.kill(child_of(int(job.job_id)), signal.SIGUSR2)
    assert job.result() == 0
    assert latest(tmp_path / "out")["long"]["status"] == "done"
    log = next((tmp_path / "logs").glob("*.out")).read_text() + next((tmp_path / "logs").glob("*.err")).read_text()
    assert ("Requeued job" in log, "terminated; the same command goes on from here" in log) == (True, True), log


def test_a_local_ray_with_two_actors(films, tmp_path):
    ray = pytest.importorskip("ray")
    from hmrkit.batches.clip import Outputs
    from hmrkit.batches.naming import name_clips
    from hmrkit.batches.submit.ray_actors import run_on_ray
    from hmrkit.options import Options

    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    options = Options(detector="toy", tracker="toy", keypoints="toy", lifter="toy", mesh="toy", device="cpu")
    ended = []
    try:
        codes = run_on_ray(
            name_clips(films.read_text().split()), options, Outputs(tmp_path / "o", ["npz"]), 2, 0, ended.append
        )
    finally:
        ray.shutdown()
    assert (dict(codes), sorted(r.status for r in ended)) == ({0: 3}, ["done"] * 3)
    assert all(line["status"] == "done" for line in latest(tmp_path / "o").values())
