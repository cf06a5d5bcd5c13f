"""Bodies that were made elsewhere: takes and other tools' results, as a mesh stream and as takes of their own.

How to add a format: see `hmrkit.results.formats`.
"""

from hmrkit.members import Member


def _line(module: str, summary: str, paper: str = "", licence: str = "") -> Member:
    return Member(module=f"hmrkit.results.{module}", summary=summary, paper=paper, licence=licence)


# Whose formats can be read. Formats are facts: no licence of a tool's comes with them.
RESULTS: dict[str, Member] = {
    "hmrkit": _line("own_npz", "person_01.npz of hmrkit's own npz export"),
    "amass": _line("amass", ".npz of AMASS (SMPL-H or SMPL-X), a recording in a world with z up", "Mahmood 2019"),
    "smpl": _line("codec", ".smpl of Meshcapade's codec (PromptHMR writes it, too), y up"),
    "wham": _line("wham", "wham_output.pkl", "Shin 2024"),
    "vibe": _line("vibe", "vibe_output.pkl and the like of PARE and PyMAF: weak perspective", "Kocabas 2020"),
    "phalp": _line("phalp", ".pkl of 4D-Humans and PHALP: weak perspective", "Goel 2023"),
    "gvhmr": _line("gvhmr", "hmr4d_results.pt (SMPL-X)", "Shen 2024"),
    "prompthmr": _line(
        "prompthmr", "results.pkl of PromptHMR's video pipeline, output.pt of its image demo (SMPL-X)", "Wang 2025"
    ),
    "tram": _line("tram", "TRAM's folder of a clip: camera.npy and hps/", "Wang 2024"),
    "cliff": _line("cliff", ".npz of CLIFF's demos", "Li 2022"),
    "romp": _line("romp", ".npz of ROMP (weak perspective) and BEV, of a clip or one frame", "Sun 2021, 2022"),
    "trace": _line("trace", ".npz of TRACE's clip", "Sun 2023"),
    "hybrik": _line("hybrik", "res.pk of HybrIK and HybrIK-X: weak perspective", "Li 2021"),
    "humandata": _line("humandata", ".npz of MMHuman3D's HumanData: its demo's, weak perspective, or data sets'"),
    "smpler-x": _line("smpler_x", "folder with smplx/ and meta/ of SMPLer-X: weak perspective", "Cai 2023"),
}
