"""`hmrkit submit`: a list of clips spread over many machines by an engine that is there already."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hmrkit.cli.run import listed

if TYPE_CHECKING:
    from hmrkit.batches.clip import ClipResult
    from hmrkit.batches.submit import Task

app = typer.Typer(
    help="Run a list of clips on a cluster. What stands after -- are options of `hmrkit run`.", no_args_is_help=True
)
_WHOLE = "1/1"
WITH_REST = {"allow_extra_args": True, "ignore_unknown_options": False}
InputList = Annotated[Path, typer.Option(help="File with one input a line, which all machines can read.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for results, which all machines can write.")]
Gpus = Annotated[int, typer.Option(min=0, help="GPUs for each task; 0: none.")]


@app.command(context_settings=WITH_REST)
def slurm(
    context: typer.Context,
    input_list: InputList,
    out: Out = Path("meshes"),
    shards: Annotated[int, typer.Option(min=1, help="Jobs that the list is parted into.")] = 100,
    at_once: Annotated[int, typer.Option(min=1, help="Jobs that run at once, at most.")] = 256,
    partition: Annotated[str | None, typer.Option(help="Slurm's partition.")] = None,
    gpus: Gpus = 1,
    cpus: Annotated[int, typer.Option(min=1, help="CPU cores for each job.")] = 4,
    memory: Annotated[int, typer.Option(min=1, help="Memory for each job in GB.")] = 16,
    minutes: Annotated[int, typer.Option(min=1, help="Time for each job; it goes on in another one.")] = 240,
    setting: Annotated[
        list[str] | None, typer.Option("--slurm", help="KEY=VALUE for sbatch, such as account=show; repeatable.")
    ] = None,
    cluster: Annotated[str | None, typer.Option(help="local: this machine. [default: Slurm where it is there]")] = None,
    logs: Annotated[Path | None, typer.Option(help="Folder for jobs' logs. [default: OUT/logs]")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until all jobs have ended.")] = False,
) -> None:
    """An array of Slurm jobs, through submitit; a job that is preempted or out of time goes back into the queue."""
    from hmrkit.batches.submit.slurm import submit_slurm
    from hmrkit.errors import EXIT_OK, EXIT_SOME_FAILED, UsageError

    task = _task(context, input_list, out)
    settings: dict[str, Any] = {"timeout_min": minutes, "gpus_per_node": gpus, "cpus_per_task": cpus, "mem_gb": memory}
    settings["slurm_array_parallelism"] = at_once
    if partition:
        settings["slurm_partition"] = partition
    more = {name: value for name, _, value in (pair.partition("=") for pair in setting or [])}
    if not all(more.values()):
        raise UsageError(f"--slurm wants KEY=VALUE, got {' '.join(setting or [])}")
    if more:
        settings["slurm_additional_parameters"] = more
    jobs = submit_slurm(task, shards, logs or out / "logs", cluster, settings)
    for job in jobs:
        typer.echo(job.job_id)
    if wait:
        ended = [job.exception() or job.result() for job in jobs]
        for problem in (code for code in ended if isinstance(code, BaseException)):
            sys.stderr.write(f"hmrkit: {str(problem).strip().splitlines()[-1]}\n")
        raise typer.Exit(EXIT_OK if all(code == EXIT_OK for code in ended) else EXIT_SOME_FAILED)


@app.command(context_settings=WITH_REST)
def openjd(
    context: typer.Context,
    input_list: InputList,
    template: Annotated[Path, typer.Option("--template", help="The file to write.")] = Path("hmrkit.template.json"),
    out: Out = Path("meshes"),
    chunk: Annotated[int, typer.Option(min=1, help="Clips in a chunk, which load the models once.")] = 20,
    gpus: Gpus = 1,
    command: Annotated[str, typer.Option(help="How hmrkit is called there.")] = "hmrkit",
) -> None:
    """Write an Open Job Description template, for AWS Deadline Cloud and other farms, with chunked tasks."""
    import shlex

    from hmrkit.batches.submit.openjd import job_template
    from hmrkit.files import write_json

    task = _task(context, input_list, out)
    write_json(template, job_template(task, len(listed(str(input_list))), chunk, gpus, shlex.split(command)))
    typer.echo(str(template))
    sys.stderr.write(f"hmrkit: its parameters: -p InputList={task.input_list} -p OutputFolder={task.out}\n")


@app.command(context_settings=WITH_REST)
def ray(
    context: typer.Context,
    input_list: InputList,
    out: Out = Path("meshes"),
    workers: Annotated[int, typer.Option(min=1, help="Actors at once.")] = 1,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs for each actor, 0.5 too; 0: a CPU.")] = 1,
    address: Annotated[str | None, typer.Option(help="The cluster's address, or auto. [default: this machine]")] = None,
) -> None:
    """Run the list on Ray: actors that load the models once, fed by Ray Data."""
    from dataclasses import fields

    from hmrkit.batches.clip import Outputs
    from hmrkit.batches.running import Choice, exit_code, plan
    from hmrkit.batches.submit.ray_actors import run_on_ray
    from hmrkit.batches.watching import watch_batch
    from hmrkit.exporters import choose_formats
    from hmrkit.options import Options

    task = _task(context, input_list, out)
    given = _parsed(task)
    options = Options(**{field.name: given[field.name] for field in fields(Options)})
    formats = choose_formats(given["formats"], options.params_only)
    outputs = Outputs(Path(task.out), formats, given["render"], given["overwrite"])
    choice = Choice(given["root"], retry_failed=given["retry_failed"], max_tries=given["max_tries"])
    clips = plan(listed(task.input_list), options, outputs, choice)
    with watch_batch(len(clips), given["progress"]) as watch:

        def done(result: ClipResult) -> None:
            watch.done(result)
            if result.error:
                sys.stderr.write(f"hmrkit: {result.error}\n")

        codes = run_on_ray(clips, options, outputs, workers, gpus, done, address, choice.max_tries)
    typer.echo(json.dumps({"clips": len(clips), "failed": sum(codes.values()) - codes[0]}))
    raise typer.Exit(exit_code(codes))


def _task(context: typer.Context, input_list: Path, out: Path) -> Task:
    """The run that is meant, its options checked now."""
    from hmrkit.batches.submit import Task
    from hmrkit.errors import UsageError

    task = Task(str(input_list.absolute()), str(out.absolute()), tuple(context.args))
    given = _parsed(task)
    own = {"inputs": None, "input_list": task.input_list, "out": Path(task.out), "shard": _WHOLE}
    if others := [name for name, value in own.items() if (given[name] or None) != value]:
        raise UsageError(
            f"submit gives every task its {others[0].replace('_', ' ')}, found another among the options of "
            f"`hmrkit run`: {' '.join(task.words)}; leave it out there"
        )
    return task


def _parsed(task: Task) -> dict[str, Any]:
    """The run's parameters by name. UsageError of `hmrkit run`'s own where there is no such option."""
    from typer.main import get_command

    from hmrkit.cli.app import app as whole

    command = get_command(whole).commands["run"]  # type: ignore[attr-defined]
    with command.make_context("hmrkit run", task.command(_WHOLE)[1:]) as context:
        return context.params
