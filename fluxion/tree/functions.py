"""Functions as parts of a model: the variables they close over, their defaults, and the globals their code reads.

A rebuilt function keeps its code and gets cells of its own. When a call is walked (`scan_call`), it also gets a
`Namespace` of its own, shared by all rebuilt functions of the same module, in which the globals that reach arrays are
replaced; all other names are looked up where they always were.
"""

from __future__ import annotations

import dis
import functools
import sys
import types
from collections.abc import Hashable
from typing import Any, NamedTuple

from fluxion.tree.protocol import Children, Kind, Step, is_library_module

# Names that every module has, which a rebuilt function needs under its own eyes (for imports and classes in it).
_MODULE_NAMES = ("__builtins__", "__name__", "__package__", "__spec__", "__file__")


class CellKind(Kind):
    """A closure's variable: a node of its own, because several functions may share it."""

    always_copied = False

    def children(self, obj: types.CellType) -> Children:
        try:
            return [(("contents", None), obj.cell_contents)]
        except ValueError:  # not assigned yet
            return []

    def make(self, meta: Any, early: Children) -> types.CellType:
        return types.CellType()

    def write(self, obj: types.CellType, step: Step, value: Any) -> None:
        obj.cell_contents = value

    def remove(self, obj: types.CellType, step: Step) -> None:
        del obj.cell_contents


class FunctionMeta(NamedTuple):
    code: types.CodeType
    namespace: dict[str, Any]
    name: str
    qualname: str


class FunctionKind(Kind):
    """Python functions. Their namespace becomes a child (`("globals", None)`) only where a call is walked."""

    always_copied = False

    def children(self, obj: types.FunctionType) -> Children:
        cells = zip(obj.__code__.co_freevars, obj.__closure__ or (), strict=True)
        found: Children = [(("cell", name), cell) for name, cell in cells]
        defaults = obj.__defaults__ or ()
        names = obj.__code__.co_varnames[obj.__code__.co_argcount - len(defaults) :]
        found += [(("default", (i, names[i])), value) for i, value in enumerate(defaults)]
        found += [(("kwdefault", name), value) for name, value in (obj.__kwdefaults__ or {}).items()]
        found += [(("attr", name), value) for name, value in vars(obj).items()]
        return found

    def meta(self, obj: types.FunctionType) -> FunctionMeta:
        return FunctionMeta(obj.__code__, obj.__globals__, obj.__name__, obj.__qualname__)

    def meta_key(self, meta: FunctionMeta) -> Hashable:
        return meta.code, id(root_namespace(meta.namespace))

    def is_early(self, step: Step) -> bool:
        return step[0] in ("cell", "globals")

    def make(self, meta: FunctionMeta, early: Children) -> types.FunctionType:
        cells = tuple(cell for step, cell in early if step[0] == "cell")
        namespace = next((value for step, value in early if step[0] == "globals"), meta.namespace)
        made = types.FunctionType(meta.code, namespace, meta.name, None, cells)
        made.__qualname__ = meta.qualname
        return made

    def write(self, obj: types.FunctionType, step: Step, value: Any) -> None:
        place, name = step
        if place == "default":
            defaults = list(obj.__defaults__ or ())
            defaults[name[0] :] = [value, *defaults[name[0] + 1 :]]
            obj.__defaults__ = tuple(defaults)
        elif place == "kwdefault":
            obj.__kwdefaults__ = {**(obj.__kwdefaults__ or {}), name: value}
        elif place == "attr":
            setattr(obj, name, value)

    def remove(self, obj: types.FunctionType, step: Step) -> None:
        if step[0] == "attr":
            delattr(obj, step[1])


class Namespace(dict[str, Any]):
    """The globals of rebuilt functions: a few names replaced, all others looked up where they always were."""

    def __init__(self, base: dict[str, Any]) -> None:
        super().__init__()
        self.base = base
        for name in _MODULE_NAMES:
            value = look_up(base, name)
            if value is not absent:
                self[name] = value

    def __missing__(self, name: str) -> Any:
        return self.base[name]


class NamespaceKind(Kind):
    """The globals of a module, as far as the functions that are walked read them (`code_facts`)."""

    always_copied = False

    def children(self, obj: dict[str, Any]) -> Children:
        """Of a `Namespace`: what was put there. A real module's names are followed one by one, as they are used."""
        return [(("global", name), value) for name, value in obj.items() if name not in _MODULE_NAMES]

    def meta(self, obj: dict[str, Any]) -> dict[str, Any]:
        return obj

    def meta_key(self, meta: dict[str, Any]) -> Hashable:
        return id(root_namespace(meta))

    def make(self, meta: dict[str, Any], early: Children) -> Namespace:
        return Namespace(meta)

    def write(self, obj: dict[str, Any], step: Step, value: Any) -> None:
        obj[step[1]] = value

    def remove(self, obj: dict[str, Any], step: Step) -> None:
        obj.pop(step[1], None)


class ModuleView(types.ModuleType):
    """A module as rebuilt functions see it: its names come from a `Namespace`."""

    def __init__(self, namespace: Namespace) -> None:
        super().__init__(str(namespace.get("__name__", "")))
        vars(self)["_namespace"] = namespace

    def __getattr__(self, name: str) -> Any:
        try:
            return vars(self)["_namespace"][name]
        except KeyError:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        vars(self)["_namespace"][name] = value

    def __delattr__(self, name: str) -> None:
        del vars(self)["_namespace"][name]


class ModuleKind(Kind):
    """A module of the user's, met as a global: `import net`, then `net.model(x)`."""

    mutable = always_copied = False

    def children(self, obj: types.ModuleType) -> Children:
        return [(("globals", None), namespace_of(obj))]

    def make(self, meta: Any, early: Children) -> ModuleView:
        return ModuleView(early[0][1])


class MethodKind(Kind):
    """Bound methods."""

    mutable = always_copied = False

    def children(self, obj: types.MethodType) -> Children:
        return [(("self", None), obj.__self__), (("func", None), obj.__func__)]

    def make(self, meta: Any, early: Children) -> types.MethodType:
        (_, owner), (_, function) = early
        return types.MethodType(function, owner)


class PartialKind(Kind):
    """`functools.partial`."""

    always_copied = False

    def children(self, obj: functools.partial[Any]) -> Children:
        found: Children = [(("attr", "func"), obj.func)]
        found += [(("item", i), value) for i, value in enumerate(obj.args)]
        found += [(("key", name), value) for name, value in obj.keywords.items()]
        return found

    def is_early(self, step: Step) -> bool:
        return True

    def make(self, meta: Any, early: Children) -> Any:
        args = [value for (place, _), value in early if place == "item"]
        keywords = {name: value for (place, name), value in early if place == "key"}
        return meta(early[0][1], *args, **keywords)

    def write(self, obj: functools.partial[Any], step: Step, value: Any) -> None:
        now = self.make(type(obj), [(place, value if place == step else old) for place, old in self.children(obj)])
        obj.__setstate__((now.func, now.args, now.keywords, vars(obj)))  # type: ignore[attr-defined]


CELL, FUNCTION, NAMESPACE, MODULE, METHOD, PARTIAL = (
    CellKind(),
    FunctionKind(),
    NamespaceKind(),
    ModuleKind(),
    MethodKind(),
    PartialKind(),
)


class CodeFacts(NamedTuple):
    global_names: tuple[str, ...]  # names looked up outside the function, by it or by functions inside it
    names: tuple[str, ...]  # these and the attributes it asks for, among them those of modules
    stored: tuple[str, ...]  # global names it assigns to
    rebinds: bool  # assigns to a variable of an enclosing scope (nonlocal, global)


@functools.lru_cache(maxsize=4096)
def code_facts(code: types.CodeType) -> CodeFacts:
    """Which names a code object reads, and whether it assigns outside itself."""
    globals_: dict[str, None] = {}
    names: dict[str, None] = dict.fromkeys(code.co_names)
    stored: dict[str, None] = {}
    rebinds = False
    for instruction in dis.get_instructions(code):
        name = str(instruction.argval)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            globals_[name] = None
        elif instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            globals_[name] = stored[name] = None
            rebinds = True
        elif instruction.opname in ("STORE_DEREF", "DELETE_DEREF") and name in code.co_freevars:
            rebinds = True
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner = code_facts(constant)
            globals_.update(dict.fromkeys(inner.global_names))
            names.update(dict.fromkeys(inner.names))
            stored.update(dict.fromkeys(inner.stored))
            rebinds = rebinds or inner.rebinds
    return CodeFacts(tuple(globals_), tuple(names), tuple(stored), rebinds)


absent = object()


def look_up(namespace: dict[str, Any], name: str) -> Any:
    """What a name means in a module or in a `Namespace` over it, or `absent`."""
    while isinstance(namespace, Namespace):
        if dict.__contains__(namespace, name):
            return dict.__getitem__(namespace, name)
        namespace = namespace.base
    return namespace.get(name, absent)


def root_namespace(namespace: dict[str, Any]) -> dict[str, Any]:
    while isinstance(namespace, Namespace):
        namespace = namespace.base
    return namespace


def namespace_of(module: types.ModuleType) -> dict[str, Any]:
    return vars(module)["_namespace"] if isinstance(module, ModuleView) else vars(module)


def is_library(namespace: dict[str, Any]) -> bool:
    """Whether these globals are those of an installed module rather than of the user's own code."""
    namespace = root_namespace(namespace)
    name = namespace.get("__name__", "")
    module = sys.modules.get(name)
    return module is not None and vars(module) is namespace and is_library_module(name)
