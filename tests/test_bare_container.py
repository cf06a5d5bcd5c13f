"""The default chain needs no OpenCV and no libGL, which bare containers lack."""

import subprocess
import sys
from pathlib import Path

CLIP = Path(__file__).parent / "data" / "one_by_one_5s.mp4"
CODE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("cv2", "trackers", "supervision", "smplx", "ultralytics"):
            raise ImportError(f"{name} is blocked: no hard dependency of the default chain may need it")

sys.meta_path.insert(0, Blocked())
from hmrkit.cli.app import app
app(sys.argv[1:], standalone_mode=False)
maps = open("/proc/self/maps").read() if sys.platform == "linux" else ""
loaded = [name for name in ("libGL.so", "libGLX", "libX11", "libgthread", "libglib") if name in maps]
assert not loaded, loaded
"""


def test_the_default_chain_runs_without_opencv(tmp_path):
    options = ["--start", "25", "--end", "29", "--device", "cpu", "--format", "npz", "--no-refine", "--out"]
    options.append(str(tmp_path))
    result = subprocess.run([sys.executable, "-c", CODE, "run", str(CLIP), *options], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.glob("*/take.npz"))
    assert list(tmp_path.glob("*/person_01.npz"))
