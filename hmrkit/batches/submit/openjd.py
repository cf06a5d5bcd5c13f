"""Open Job Description: a job template for farms (AWS Deadline Cloud and others), whose tasks are chunks of clips.

Specification 2023-09 with the extension TASK_CHUNKING: https://github.com/OpenJobDescription/openjd-specifications.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hmrkit.batches.submit import Task

_NOTICE_S = 60  # from the signal to the end of a task that is cancelled: it keeps what is done


def job_template(
    task: Task, clips: int, chunk: int, gpus: int = 0, command: Sequence[str] = ("hmrkit",)
) -> dict[str, Any]:
    """The template of a job of `clips` clips in chunks of `chunk`, as JSON values.

    The list and the folder of results are parameters of the job, as are the number of clips and the chunk, so that one
    template serves many lists (a template must not name absolute paths). Each clip is a shard of its own.
    """
    shown = Task("{{Param.InputList}}", "{{Param.OutputFolder}}", [*task.words, "--progress", "openjd"])
    words = [*command, *shown.command("{{Task.Param.Clip}}/{{Param.Clips}}")]
    requirements = {"hostRequirements": {"amounts": [{"name": "amount.worker.gpu", "min": gpus}]}} if gpus else {}
    cancelation = {"mode": "NOTIFY_THEN_TERMINATE", "notifyPeriodInSeconds": _NOTICE_S}
    chunks = {"defaultTaskCount": "{{Param.ClipsPerChunk}}", "rangeConstraint": "CONTIGUOUS"}
    clip = {"name": "Clip", "type": "CHUNK[INT]", "range": "1-{{Param.Clips}}", "chunks": chunks}
    run = {"command": words[0], "args": words[1:], "cancelation": cancelation}
    return {
        "specificationVersion": "jobtemplate-2023-09",
        "extensions": ["TASK_CHUNKING"],
        "name": "hmrkit",
        "parameterDefinitions": [
            {"name": "InputList", "type": "PATH", "objectType": "FILE", "dataFlow": "IN"},
            {"name": "OutputFolder", "type": "PATH", "objectType": "DIRECTORY", "dataFlow": "OUT"},
            {"name": "Clips", "type": "INT", "minValue": 1, "default": clips},
            {"name": "ClipsPerChunk", "type": "INT", "minValue": 1, "default": chunk},
        ],
        "steps": [
            {
                "name": "Run",
                "parameterSpace": {"taskParameterDefinitions": [clip]},
                "script": {"actions": {"onRun": run}},
                **requirements,
            }
        ],
    }
