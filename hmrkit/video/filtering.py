"""libavfilter's graphs on decoded frames: to the RGB that a player shows, and whole frames of interlaced ones."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.error import BlockingIOError as NotYet
from av.error import EOFError as NoMore
from av.filter import Graph

from hmrkit.video.colour import Colour, over_grey
from hmrkit.video.display import Display

_CLOCK = Fraction(1, 1000)  # any that is given is kept; frames are known by number


class ShownFrames:
    """Decoded frame -> RGB uint8 (H,W,3) as a player shows it. A frame of another size or format gets its own graph."""

    def __init__(self, display: Display, colour: Colour) -> None:
        self.colour = colour
        self.steps = [*colour.filters(), *display.filters()]
        self.graphs: dict[tuple[int, int, str], Graph] = {}

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        kind = (frame.width, frame.height, frame.format.name)
        graph = self.graphs.get(kind) or self.graphs.setdefault(kind, _graph(frame, self.steps))
        graph.vpush(frame)
        image = graph.vpull().to_ndarray()
        return over_grey(image) if image.shape[-1] == 4 else image


def deinterlaced(frames: Iterator[tuple[int, av.VideoFrame]]) -> Iterator[tuple[int, av.VideoFrame]]:
    """(number, frame) with the two fields of each interlaced frame made one image, at the time of the first field.

    libavfilter's ``bwdif``: a frame is mended from its neighbours, so it comes out when the next is known. Frames that
    are marked as progressive pass unchanged.
    """
    graph: Graph | None = None
    last = -1
    for number, frame in frames:
        if graph is None:
            graph = _graph(frame, [("bwdif", "mode=send_frame:parity=auto:deint=interlaced")])
        frame.pts, frame.time_base = number, _CLOCK
        graph.vpush(frame)
        for done in _pull(graph, last):
            last = done[0]
            yield done
    if graph is not None:
        graph.vpush(None)
        yield from _pull(graph, last)


def _pull(graph: Graph, last: int) -> Iterator[tuple[int, av.VideoFrame]]:
    while True:
        try:
            frame = graph.vpull()
        except (NotYet, NoMore):
            return
        # bwdif counts in half units of the clock.
        number = round((frame.pts or 0) * (frame.time_base or _CLOCK) / _CLOCK)
        if number > last:
            last = number
            yield number, frame


def _graph(frame: av.VideoFrame, steps: list[tuple[str, str]]) -> Graph:
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=_CLOCK)
    graph.link_nodes(source, *(graph.add(name, text or None) for name, text in steps), graph.add("buffersink"))
    graph.configure()
    return graph
