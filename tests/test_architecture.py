"""The shape of the package, read from its source: imports point one way, and what is public says so.

    6   cli                                            a doorway: parse, call one function, print
    5   session  wiring  fitting  counting             wiring: the only place that knows everything
        inference  exchange  averaging
        run  tasks
        assemble  decoding  scoring  report  demo  doctor
    4   train                                          receives objects, builds none
    3   search  metrics                                search sees the protocol, not the models
    2   data  models  loss  r_drop
    1   text  layers
    0   errors  settings  host  files  config  batch  state

A module imports lower ranks and its own package; inside a rank only along `INSIDE`.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

import seqkit

ROOT = Path(seqkit.__file__).parent

RANKS = (
    ("errors", "settings", "host", "files", "config", "batch", "state"),
    ("text", "layers"),
    ("data", "models", "loss", "r_drop"),
    ("search", "metrics"),
    ("train",),
    (
        "assemble",
        "averaging",
        "counting",
        "decoding",
        "demo",
        "doctor",
        "exchange",
        "fitting",
        "inference",
        "report",
        "run",
        "scoring",
        "session",
        "tasks",
        "wiring",
    ),
    ("cli", "serve"),
)
RANK = {part: rank for rank, parts in enumerate(RANKS) for part in parts}

# Who may import whom inside a rank.
INSIDE = {
    "files": {"errors"},
    "config": {"errors", "files", "settings"},
    "settings": {"errors"},
    "host": {"errors"},
    "r_drop": {"loss"},
    "state": {"batch"},
    "tasks": {"assemble", "decoding", "scoring"},
    "run": {"assemble"},
    "counting": {"tasks"},
    "fitting": {"assemble", "tasks"},
    "wiring": {"assemble", "tasks"},
    "session": {"assemble", "counting", "fitting", "run", "tasks", "wiring"},
    "inference": {"decoding", "report", "run", "scoring", "tasks"},
    "exchange": {"run"},
    "serve": {"cli"},
    "cli": {"serve"},
}
# Lower ranks that a part must do without all the same.
NEVER = {
    "text": {"batch", "state"},
    "layers": {"settings", "config", "files"},
    "search": {"text", "layers", "data", "models", "loss"},
    "metrics": {"text", "layers", "data", "models"},
    "train": {"models", "search", "text"},
}
# What a command line that only prints help must not wait for.
HEAVY = {"datasets", "matplotlib", "numpy", "prompt_toolkit", "rich", "sacrebleu", "sentencepiece", "torch"}
LAZY = ("cli", "serve")  # packages whose functions may import


class Module:
    """One source file: its name, its tree, and what it imports."""

    def __init__(self, path: Path) -> None:
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        self.package = parts[-1] == "__init__"
        self.name = ".".join(parts[:-1] if self.package else parts)
        self.part = parts[1] if len(parts) > 2 or not self.package else ""  # "" is seqkit itself
        self.tree = ast.parse(path.read_text(encoding="utf-8"))

    def imports(self, *, inside_functions: bool) -> Iterator[str]:
        """Full names of imported modules, at the top level or inside functions; names of a module give the module."""
        nodes = list(_functions(self.tree)) if inside_functions else list(_top(self.tree))
        for node in nodes:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name} has a relative import"
                assert node.module is not None
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    yield whole if whole in NAMES else node.module

    @property
    def public(self) -> list[str] | None:
        """What `__all__` lists, if there is one."""
        for node in self.tree.body:
            target = (
                node.targets[0]
                if isinstance(node, ast.Assign)
                else node.target
                if isinstance(node, ast.AnnAssign)
                else None
            )
            if isinstance(target, ast.Name) and target.id == "__all__":
                assert isinstance(node, ast.Assign | ast.AnnAssign)
                assert node.value is not None
                found: list[str] = ast.literal_eval(node.value)
                return found
        return None


def _top(tree: ast.Module) -> Iterator[ast.AST]:
    """What runs when the module is imported; branches for the type checker do not."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def _functions(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from ast.walk(node)


PATHS = sorted(ROOT.rglob("*.py"))
NAMES = {".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__") for path in PATHS}
MODULES = {module.name: module for module in map(Module, PATHS)}
every_module = pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)


def part_of(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def ours(names: Iterator[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] == "seqkit"}


def may_import(importer: str, imported: str) -> bool:
    """Whether one part of the package may import another."""
    if importer in ("", "__main__") or importer == imported:
        return True
    if imported in NEVER.get(importer, set()):
        return False
    if imported == "":  # seqkit's own table of contents, which loads on demand
        return importer in LAZY
    return RANK[imported] < RANK[importer] or imported in INSIDE.get(importer, set())


def test_every_part_has_a_rank() -> None:
    assert {module.part for module in MODULES.values()} - {"", "__main__"} <= set(RANK)


@every_module
def test_imports_point_down(module: Module) -> None:
    wrong = {
        name for name in ours(module.imports(inside_functions=False)) if not may_import(module.part, part_of(name))
    }
    assert not wrong


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("text", "train"),
        ("search", "models"),
        ("train", "text"),
        ("models", "data"),
        ("run", "session"),
        ("errors", "files"),
    ],
)
def test_the_rule_refuses_what_points_up_or_sideways(importer: str, imported: str) -> None:
    assert not may_import(importer, imported)


def test_there_is_no_import_cycle() -> None:
    graph = {name: ours(module.imports(inside_functions=False)) for name, module in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@every_module
def test_only_doorways_import_inside_functions(module: Module) -> None:
    found = ours(module.imports(inside_functions=True))
    assert not found or module.part in LAZY or module.name == "seqkit"


def reached(start: str) -> set[str]:
    """Every module that importing `start` imports, the packages around them included."""
    found: set[str] = set()
    waiting = {start}
    while waiting:
        name = waiting.pop()
        found.add(name)
        around = {name.rpartition(".")[0]} - {""}
        news = set(MODULES[name].imports(inside_functions=False)) if name in MODULES else set()
        waiting |= {new for new in around | news if new not in found}
    return found


@pytest.mark.parametrize("start", ["seqkit", "seqkit.cli.main", "seqkit.config", "seqkit.settings", "seqkit.files"])
def test_light_modules_import_nothing_heavy(start: str) -> None:
    assert not {name.split(".")[0] for name in reached(start)} & HEAVY


@pytest.mark.parametrize("name", sorted(name for name in NAMES if part_of(name) in ("text", "settings", "cli")))
def test_text_settings_and_commands_can_be_imported_without_torch(name: str) -> None:
    assert "torch" not in {found.split(".")[0] for found in reached(name)}


@pytest.mark.parametrize("name", sorted(name for name in NAMES if part_of(name) == "text"))
def test_text_never_imports_torch(name: str) -> None:
    module = MODULES[name]
    both = {*module.imports(inside_functions=False), *module.imports(inside_functions=True)}
    assert not [found for found in both if found.split(".")[0] == "torch"]


def order(name: str) -> tuple[int, str]:
    """CONSTANTS, Classes, then functions, as the linter sorts them."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@every_module
def test_what_is_public_is_listed_sorted_and_there(module: Module) -> None:
    names = module.public
    if names is None:
        assert module.part in ("__main__", "cli")
        return
    assert all(order(one) < order(other) for one, other in pairwise(names))
    assert not [name for name in names if name.startswith("_") and name != "__version__"]
    loaded = importlib.import_module(module.name)
    assert not [name for name in names if not hasattr(loaded, name)]


@every_module
def test_a_package_lists_all_that_it_imports(module: Module) -> None:
    if module.package and module.name != "seqkit" and module.public is not None:
        nodes = (node for node in module.tree.body if isinstance(node, ast.ImportFrom) and node.module != "__future__")
        assert sorted(alias.name for node in nodes for alias in node.names) == sorted(module.public)


@every_module
def test_only_public_names_are_imported(module: Module) -> None:
    """What another module needs is public, and says so in `__all__`."""
    hidden = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            public = MODULES[node.module].public
            for alias in node.names:
                is_module = f"{node.module}.{alias.name}" in NAMES
                if not is_module and public is not None and alias.name not in public:
                    hidden.append(f"{node.module}.{alias.name}")
    assert not hidden


@every_module
def test_what_is_public_is_documented(module: Module) -> None:
    assert ast.get_docstring(module.tree) or module.part == "__main__"
    public = module.public or []
    bare = []
    for node in module.tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in public:
            bare += [node.name] if not ast.get_docstring(node) else []
            if isinstance(node, ast.ClassDef):
                methods = (each for each in node.body if isinstance(each, ast.FunctionDef))
                bare += [
                    f"{node.name}.{method.name}"
                    for method in methods
                    if not method.name.startswith("_")
                    and method.name not in ("forward", "extra_repr")
                    and not ast.get_docstring(method)
                ]
    assert not bare
