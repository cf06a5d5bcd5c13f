"""A pickle's program, run without making anything that it names: what is left is an inert tree.

Python's own unpicklers import what a file names, call it, and hand it states. Each allowed name is then a way in, and
NumPy trusts a dtype's state so far that a forged one turns bytes into pointers. Here a name stays a `Name`, a call or
an object a `Made`, and no more: `hmrkit.untrusted.values` makes arrays of them from checked parts.

Opcodes and their arguments are those of Python's ``pickletools`` (protocols 0 to 5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

from hmrkit.untrusted.reading import PickleReader
from hmrkit.untrusted.tree import Made, Name, Outside, Pairs, refused

FREE_OBJECTS = 1 << 18  # containers, records and memo entries of any file; a larger one may have a third of its bytes
_PYTHON_2 = {"copy_reg": "copyreg", "__builtin__": "builtins"}


class Machine:
    """Runs the pickle that begins where `stream` stands and leaves it where the pickle ends.

    `allowed` says which names a file may have. `outside`: whether it may have persistent ids. `built` is called with
    a `Made` that has just got its state and returns what stands in its place; it may read on in the stream.
    """

    def __init__(
        self,
        stream: BinaryIO,
        allowed: Callable[[str], bool],
        outside: bool = False,
        built: Callable[[Made], Any] | None = None,
    ) -> None:
        self.read = PickleReader(stream)
        self.allowed, self.outside, self.built = allowed, outside, built
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.outsides: list[Outside] = []
        self.objects = self.most_objects = FREE_OBJECTS + self.read.size // 3

    def run(self) -> Any:
        """The tree, of None, bool, int, float, str, bytes, tuple, list (also for sets) and this module's classes.

        Raises WeightsError for a name that is not allowed and where it would fill memory; ValueError, EOFError,
        IndexError or struct.error where it is damaged.
        """
        opcode, handlers = self.read.opcode, _OPCODES
        while (code := opcode()) != b".":
            handler = handlers.get(code)
            if handler is None:
                raise ValueError(f"no opcode {code!r}" if code else "the pickle is cut off")
            handler(self)
        return self.stack.pop()

    # --------------------------------------------------------------------------------------------------------- stack

    def _push(self, value: Any) -> None:
        self.stack.append(value)

    def _push_object(self, value: Any) -> None:
        self._count()
        self.stack.append(value)

    def _count(self) -> None:
        self.objects -= 1
        if self.objects < 0:
            raise refused(f"makes more than {self.most_objects} objects of {self.read.size} bytes")

    def _to_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def _mark(self) -> None:
        self._count()
        self.marks.append(self.stack)
        self.stack = []

    def _pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._to_mark()

    def _tuple(self, count: int) -> None:
        items = tuple(self.stack[len(self.stack) - count :])
        if len(items) < count:
            raise IndexError("the stack is empty")
        del self.stack[len(self.stack) - count :]
        self._push_object(items)

    def _put(self, index: int) -> None:
        self._count()
        self.memo[index] = self.stack[-1]

    def _get(self, index: int) -> None:
        if index not in self.memo:
            raise ValueError("a reference to nothing")
        self.stack.append(self.memo[index])

    # ------------------------------------------------------------------------------------------------------- objects

    def _name(self, module: Any, name: Any) -> Name:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("a name that is no text")
        whole = f"{_PYTHON_2.get(module, module)}.{name}"
        if not self.allowed(whole):
            raise refused(f"asks for {whole[:200]!r}" if not whole.isprintable() else f"asks for {whole[:200]}")
        return Name(whole)

    def _make(self, what: Any, args: Any) -> None:
        if not (isinstance(what, Name) and isinstance(args, tuple)):
            raise refused("asks to call what is no name")
        if what.name == "copyreg._reconstructor":  # how protocols 0 and 1 make every object
            if not (args and isinstance(args[0], Name)):
                raise refused("asks to construct what is no class")
            what, args = args[0], ()
        self._push_object(Made(what.name, args))

    def _call(self) -> None:
        args, what = self.stack.pop(), self.stack.pop()
        self._make(what, args)

    def _call_with_keywords(self) -> None:
        keywords = self.stack.pop()
        if not (isinstance(keywords, Pairs) and not keywords.items):
            raise refused("asks to call with keywords")
        self._call()

    def _call_at_mark(self) -> None:
        what, *args = self._to_mark()
        self._make(what, tuple(args))

    def _call_by_lines(self) -> None:
        what = self._name(self.read.line().decode(), self.read.line().decode())
        self._make(what, tuple(self._to_mark()))

    def _global_by_stack(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._push_object(self._name(module, name))

    def _build(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if not isinstance(made, Made) or made.state is not None:
            raise refused("asks to fill what is no new object")
        made.state = state
        if self.built is not None:
            self.stack[-1] = self.built(made)

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Made):
            target.items.extend(items)
        elif isinstance(target, list):
            target.extend(items)
        else:
            raise ValueError("elements of what is no list")

    def _extend_pairs(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if len(items) % 2 or not isinstance(target, (Made, Pairs)):
            raise ValueError("entries of what is no dictionary")
        target.items.extend(items)

    def _pairs(self) -> None:
        items = self._to_mark()
        if len(items) % 2:
            raise ValueError("a key without a value")
        self._push_object(Pairs(items))

    def _persistent(self, pid: Any) -> None:
        if not self.outside:
            raise refused("asks for a persistent object")
        self.outsides.append(Outside(pid))
        self._push_object(self.outsides[-1])

    def _integer_line(self) -> None:
        text = self.read.digits()
        self.stack.append(text == "01" if text in ("00", "01") else int(text))


def _text(layout: str, encoding: str, errors: str = "strict") -> Callable[[Machine], None]:
    return lambda machine: machine._push(machine.read.counted(layout).decode(encoding, errors))


def _raw(layout: str) -> Callable[[Machine], None]:
    return lambda machine: machine._push(machine.read.counted(layout))


_Handler = Callable[[Machine], Any]
_OPCODES: dict[bytes, _Handler] = {
    b"\x80": lambda m: m.read.take(1),  # the protocol, and the length of a frame: not needed
    b"\x95": lambda m: m.read.take(8),
    b"(": Machine._mark,
    b"0": Machine._pop,
    b"1": Machine._to_mark,
    b"2": lambda m: m._push(m.stack[-1]),
    b"N": lambda m: m._push(None),
    b"\x88": lambda m: m._push(True),
    b"\x89": lambda m: m._push(False),
    b"I": Machine._integer_line,
    b"L": lambda m: m._push(int(m.read.digits().rstrip("L"))),
    b"J": lambda m: m._push(m.read.number("<i")),
    b"K": lambda m: m._push(m.read.number("<B")),
    b"M": lambda m: m._push(m.read.number("<H")),
    b"\x8a": lambda m: m._push(m.read.integer("<B")),
    b"\x8b": lambda m: m._push(m.read.integer("<i")),
    b"F": lambda m: m._push(float(m.read.digits())),
    b"G": lambda m: m._push(m.read.number(">d")),
    b"S": lambda m: m._push_object(m.read.quoted()),
    b"T": _text("<i", "latin1"),
    b"U": _text("<B", "latin1"),
    b"V": lambda m: m._push(m.read.line().decode("raw-unicode-escape")),
    b"X": _text("<I", "utf-8", "surrogatepass"),
    b"\x8c": _text("<B", "utf-8", "surrogatepass"),
    b"\x8d": _text("<Q", "utf-8", "surrogatepass"),
    b"B": _raw("<I"),
    b"C": _raw("<B"),
    b"\x8e": _raw("<Q"),
    b"\x96": _raw("<Q"),  # a bytearray: nothing here changes bytes
    b")": lambda m: m._push(()),
    b"\x85": lambda m: m._tuple(1),
    b"\x86": lambda m: m._tuple(2),
    b"\x87": lambda m: m._tuple(3),
    b"t": lambda m: m._push_object(tuple(m._to_mark())),
    b"]": lambda m: m._push_object([]),
    b"l": lambda m: m._push_object(m._to_mark()),
    b"a": lambda m: m._extend([m.stack.pop()]),
    b"e": lambda m: m._extend(m._to_mark()),
    b"}": lambda m: m._push_object(Pairs([])),
    b"d": Machine._pairs,
    b"s": lambda m: m._extend_pairs([m.stack.pop(), m.stack.pop()][::-1]),
    b"u": lambda m: m._extend_pairs(m._to_mark()),
    b"\x8f": lambda m: m._push_object([]),  # a set
    b"\x90": lambda m: m._extend(m._to_mark()),
    b"\x91": lambda m: m._push_object(m._to_mark()),
    b"p": lambda m: m._put(int(m.read.digits())),
    b"q": lambda m: m._put(m.read.number("<B")),
    b"r": lambda m: m._put(m.read.number("<I")),
    b"\x94": lambda m: m._put(len(m.memo)),
    b"g": lambda m: m._get(int(m.read.digits())),
    b"h": lambda m: m._get(m.read.number("<B")),
    b"j": lambda m: m._get(m.read.number("<I")),
    b"c": lambda m: m._push_object(m._name(m.read.line().decode(), m.read.line().decode())),
    b"\x93": Machine._global_by_stack,
    b"R": Machine._call,
    b"\x81": Machine._call,
    b"\x92": Machine._call_with_keywords,
    b"o": Machine._call_at_mark,
    b"i": Machine._call_by_lines,
    b"b": Machine._build,
    b"P": lambda m: m._persistent(m.read.line().decode("ascii")),
    b"Q": lambda m: m._persistent(m.stack.pop()),
}  # fmt: skip
