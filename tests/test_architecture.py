"""The shape of the package, read from its source: imports point down, what is public says so, names are unique."""

from __future__ import annotations

import ast
import importlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

import seqkit

ROOT = Path(seqkit.__file__).parent
TESTS = Path(__file__).parent

# The rooms, the lowest first: a module imports its own room and lower ranks, wherever the import stands.
RANKS = (
    ("errors", "batch"),
    ("files", "state", "metrics"),
    ("settings", "kernels"),
    ("config", "system", "text", "layers", "loss", "search"),
    ("data", "models"),
    ("engine", "parallel"),
    ("storage",),
    ("training",),
    ("tasks",),
    ("runs",),
    ("inference", "demo"),
    ("exchange",),
    ("cli",),
)
RANK = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}
# Lower ranks that a room must do without all the same.
NEVER = {
    "text": {"batch", "state"},
    "layers": {"settings", "files"},
    "loss": {"settings", "files"},
    "kernels": {"settings", "files"},
    "search": {"files"},
    "training": {"models", "search", "text", "engine", "data"},
}
# What a command line that only prints help must not wait for.
HEAVY = {"datasets", "matplotlib", "numpy", "prompt_toolkit", "rich", "sacrebleu", "sentencepiece", "torch"}
LIGHT = ("seqkit", "seqkit.cli.main", "seqkit.config", "seqkit.settings", "seqkit.settings.automatic", "seqkit.files")


class Module:
    """One source file: its name, its tree, and what it imports."""

    def __init__(self, name: str, source: str, *, package: bool = False) -> None:
        self.name = name
        self.package = package
        parts = name.split(".")
        self.room = parts[1] if len(parts) > 1 else ""  # "" is seqkit itself
        self.tree = ast.parse(source)

    def imports(self, *, on_load: bool) -> Iterator[str]:
        """Full names of imported modules: those imported when it is loaded, or all, lazy and typing-only ones too."""
        for node in _on_load(self.tree) if on_load else ast.walk(self.tree):
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
            targets = node.targets if isinstance(node, ast.Assign) else []
            target = node.target if isinstance(node, ast.AnnAssign) else targets[0] if targets else None
            if isinstance(target, ast.Name) and target.id == "__all__":
                assert isinstance(node, ast.Assign | ast.AnnAssign)
                assert node.value is not None
                names: list[str] = ast.literal_eval(node.value)
                return names
        return None


def _on_load(tree: ast.Module) -> Iterator[ast.AST]:
    """What runs when the module is imported; functions and branches for the type checker do not."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


PATHS = sorted(ROOT.rglob("*.py"))
NAMES = set(map(_name, PATHS))
MODULES = {
    _name(path): Module(_name(path), path.read_text(encoding="utf-8"), package=path.name == "__init__.py")
    for path in PATHS
}


def room_of(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def ours(names: Iterator[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] == "seqkit"}


def may_import(importer: str, imported: str) -> bool:
    """Whether a room may import another."""
    if importer in ("", "__main__") or importer == imported:
        return True
    return imported != "" and RANK[imported] < RANK[importer] and imported not in NEVER.get(importer, set())


def pointing_up(module: Module) -> list[str]:
    """Imports that the ranks forbid, lazy ones included."""
    return [
        f"{module.name} imports {name}"
        for name in sorted(ours(module.imports(on_load=False)))
        if not may_import(module.room, room_of(name))
    ]


def hidden_imports(module: Module) -> list[str]:
    """Names that are imported from another module, which does not list them as public."""
    hidden = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            public = MODULES[node.module].public
            hidden += [
                f"{module.name} imports {node.module}.{alias.name}"
                for alias in node.names
                if f"{node.module}.{alias.name}" not in NAMES and public is not None and alias.name not in public
            ]
    return hidden


def lazy_imports(module: Module) -> list[str]:
    """Imports of ours within functions, where only the command line has reason for them."""
    if module.room == "cli" or module.name == "seqkit":
        return []
    late = ours(module.imports(on_load=False)) - ours(module.imports(on_load=True))
    return [f"{module.name} imports {name} late" for name in sorted(late)]


def public_faults(module: Module) -> list[str]:
    """`__all__` is sorted, complete for a package, and names what is there."""
    names = module.public
    if names is None:
        return [] if module.room in ("__main__", "cli") else [f"{module.name} has no __all__"]
    faults = [
        f"{module.name}: {one} before {other}" for one, other in pairwise(names) if not _order(one) < _order(other)
    ]
    faults += [f"{module.name}: {name}" for name in names if name.startswith("_") and name != "__version__"]
    loaded = importlib.import_module(module.name)
    faults += [f"{module.name} has no {name}" for name in names if not hasattr(loaded, name)]
    if module.package and module.name != "seqkit":
        nodes = (node for node in module.tree.body if isinstance(node, ast.ImportFrom) and node.module != "__future__")
        missing = {alias.name for node in nodes for alias in node.names} ^ set(names)
        faults += [f"{module.name}: {name} is imported or listed, not both" for name in sorted(missing)]
    return faults


def _order(name: str) -> tuple[int, str]:
    """CONSTANTS, Classes, then functions, as the linter sorts them."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def undocumented(module: Module) -> list[str]:
    """Public modules, classes, methods and functions without a docstring, or with one that says nothing."""
    bare = [] if _says_something(module.tree) or module.room == "__main__" else [module.name]
    public = module.public or []
    for node in module.tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in public:
            bare += [] if _says_something(node) else [f"{module.name}.{node.name}"]
            methods = [method for method in node.body if isinstance(method, ast.FunctionDef)]
            bare += [
                f"{module.name}.{node.name}.{method.name}"
                for method in (methods if isinstance(node, ast.ClassDef) else [])
                if not method.name.startswith("_")
                and method.name not in ("forward", "extra_repr")
                and not _says_something(method)
            ]
    return bare


def _says_something(node: ast.Module | ast.FunctionDef | ast.ClassDef) -> bool:
    return len((ast.get_docstring(node) or "").split()) > 2


def reached(start: str) -> set[str]:
    """Every module that importing `start` imports, the packages around them included."""
    seen: set[str] = set()
    waiting = {start}
    while waiting:
        name = waiting.pop()
        seen.add(name)
        around = {name.rpartition(".")[0]} - {""}
        imported = set(MODULES[name].imports(on_load=True)) if name in MODULES else set()
        waiting |= (around | imported) - seen
    return seen


def loaded_by(name: str) -> set[str]:
    """The libraries, by their first names, that importing a module imports."""
    return {found.split(".")[0] for found in reached(name)}


def test_every_room_has_a_rank() -> None:
    assert {module.room for module in MODULES.values()} - {"", "__main__"} == set(RANK)


def test_the_map_shows_the_rooms_with_their_ranks() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {room: int(rank) for rank, room in re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.MULTILINE)} == RANK


def test_the_map_names_only_what_is_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rooms = "|".join(RANK)
    for room, module in re.findall(rf"`({rooms})/(\w+)(?:\.\w+)?`", text):
        assert f"seqkit.{room}.{module}" in NAMES or (room, module) == ("cli", "NAME_command"), f"{room}/{module}"


@pytest.mark.parametrize(
    "rule",
    [pointing_up, hidden_imports, lazy_imports, public_faults, undocumented],
    ids=lambda rule: rule.__name__,
)
def test_every_module_keeps_the_rule(rule: Callable[[Module], list[str]]) -> None:
    faults = [fault for module in MODULES.values() for fault in rule(module)]
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (pointing_up, "from seqkit.cli.main import run"),
        (pointing_up, "def f():\n    from seqkit.training.trainer import Trainer"),
        (pointing_up, "if TYPE_CHECKING:\n    from seqkit.runs import session"),
        (pointing_up, "from seqkit.layers.masks import causal_mask"),
        (hidden_imports, "from seqkit.files import _nothing"),
        (lazy_imports, "def f():\n    from seqkit.files import sha256"),
        (public_faults, "__all__ = ['b', 'a']"),
        (public_faults, "def f(): ..."),
        (undocumented, '"""What this is for."""\n__all__ = ["f"]\ndef f(): ...'),
        (undocumented, '"""What this is for."""\n__all__ = ["f"]\ndef f():\n    """The same."""'),
    ],
)
def test_every_rule_finds_what_breaks_it(rule: Callable[[Module], list[str]], source: str) -> None:
    assert rule(Module("seqkit.text.vocabulary", source))


def test_there_is_no_import_circle_lazy_and_typing_imports_included() -> None:
    graph = {name: ours(module.imports(on_load=False)) - {name} for name, module in MODULES.items() if name != "seqkit"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_two_modules_have_one_name() -> None:
    names = Counter(name.rpartition(".")[2] for name, module in MODULES.items() if not module.package)
    assert not [name for name, count in names.items() if count > 1]


def test_light_modules_load_nothing_heavy() -> None:
    assert not {(name, heavy) for name in LIGHT for heavy in loaded_by(name) & HEAVY}


def test_text_settings_commands_host_and_terminal_are_loaded_without_torch() -> None:
    names = {name for name in NAMES if room_of(name) in ("text", "settings", "cli", "metrics")}
    names |= {"seqkit.system.host", "seqkit.system.terminal", "seqkit.storage.lock", "seqkit.storage.status"}
    assert not {name for name in names if "torch" in loaded_by(name)}


def test_text_never_imports_torch() -> None:
    text = [module for name, module in MODULES.items() if room_of(name) == "text"]
    assert not {name for module in text for name in module.imports(on_load=False) if name.split(".")[0] == "torch"}


def test_every_module_has_a_test_of_its_name() -> None:
    elsewhere = {
        # Tables of settings: their bounds are read by test_config.py, what they allow together by test_consistency.py.
        *(f"settings/{name}" for name in ("base", "data", "recipe", "search", "text")),
        # What kinds of models claim to do: all of them in settings/test_model.py.
        *(f"settings/{name}" for name in ("labelling", "language")),
        "engine/fused_transformer",  # a law of every Transformer: laws/test_fused_transformer.py
        "engine/search_engine",  # what two kinds of search have in common: test_batch_search.py, test_translator.py
    }
    modules = {path.relative_to(ROOT).with_suffix("").as_posix() for path in PATHS if not path.name.startswith("__")}
    tests = (path.relative_to(TESTS) for path in TESTS.rglob("test_*.py"))
    tested = {path.with_name(path.stem.removeprefix("test_")).as_posix() for path in tests}
    assert modules - tested == elsewhere
