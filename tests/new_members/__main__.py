"""The command line with four more members: each is a file here and one line of a table below."""

from hmrkit.exporters import EXPORTERS
from hmrkit.lifters import LIFTERS, LifterMember
from hmrkit.members import Member
from hmrkit.regressors import REGRESSORS

REGRESSORS["mapped"] = Member(module="new_members.regressor", summary="maps", recipe="new_members.regressor")
LIFTERS["linear"] = LifterMember(module="new_members.lifter", summary="linear", recipe="new_members.lifter")
EXPORTERS["count"] = Member(module="new_members.exporter", class_name="CountExporter", summary="counts people")

from hmrkit.mesh_streams import MESH_STREAMS, StreamMember  # noqa: E402 - reads the regressors

MESH_STREAMS["standing"] = StreamMember(module="new_members.mesh_stream", summary="stands")

from hmrkit.cli import main  # noqa: E402 - reads all tables

if __name__ == "__main__":
    main()
