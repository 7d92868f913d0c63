"""Nothing that is read is ever run, and nothing is sent or fetched: read from the source of the whole tree."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

import seqkit

PACKAGE = Path(seqkit.__file__).parent
ROOT = PACKAGE.parent
SOURCES = {
    str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8"))
    for folder in ("seqkit", "recipes", "data_scripts")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
every_source = pytest.mark.parametrize("name", SOURCES)

FORBIDDEN_MODULES = {"dill", "joblib", "marshal", "pickle", "shelve", "yaml"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "torch.save"}


def forbidden(tree: ast.AST) -> list[str]:
    """What could run code from a file or from a string."""
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found += [alias.name for alias in names if alias.name.split(".")[0] in FORBIDDEN_MODULES]
            case ast.ImportFrom(module=str(name)) if name.split(".")[0] in FORBIDDEN_MODULES:
                found.append(name)
            case ast.Call(func=function, keywords=keywords):
                name = ast.unparse(function)
                found += [name] if name in FORBIDDEN_CALLS else []
                for keyword in keywords:
                    risky = {"shell": True, "allow_pickle": True, "weights_only": False, "trust_remote_code": True}
                    if keyword.arg in risky and not _is(keyword.value, not risky[keyword.arg]):
                        found.append(f"{keyword.arg}={ast.unparse(keyword.value)}")
    return found


def _is(node: ast.AST, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@every_source
def test_no_file_and_no_text_is_ever_run(name: str) -> None:
    assert not forbidden(SOURCES[name])


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "eval('1')",
        "torch.load(path)",
        "subprocess.run(command, shell=True)",
        "np.load(path, allow_pickle=flag)",
    ],
)
def test_the_rule_finds_what_could_run_code(source: str) -> None:
    assert forbidden(ast.parse(source))


# Programs in data_scripts fetch texts; the package itself never does.
NETWORK = {"aiohttp", "asyncio", "ftplib", "http", "httpx", "huggingface_hub", "requests", "smtplib", "socketserver"}
NETWORK |= {"ssl", "telnetlib", "urllib", "urllib3", "websockets", "xmlrpc"}


def reaching_out(tree: ast.AST) -> list[str]:
    """What could open a connection: modules made for it, and sockets, of which only the name of this host is used."""
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found += [alias.name for alias in names if alias.name.split(".")[0] in NETWORK]
            case ast.ImportFrom(module=str(name)) if name.split(".")[0] in {*NETWORK, "socket"}:
                found.append(name)
            case ast.Attribute(value=ast.Name(id="socket"), attr=name) if name != "gethostname":
                found.append(f"socket.{name}")
            case ast.Constant(value=str(text)) if text.startswith(("http://", "https://")):
                found.append(text)
    return found


@pytest.mark.parametrize("name", [name for name in SOURCES if name.startswith("seqkit/")])
def test_the_package_opens_no_connection(name: str) -> None:
    assert not reaching_out(SOURCES[name])


@pytest.mark.parametrize(
    "source", ["import urllib.request", "from socket import create_connection", "socket.socket()", "x = 'https://a.b'"]
)
def test_the_rule_finds_what_opens_a_connection(source: str) -> None:
    assert reaching_out(ast.parse(source))


# Below these, known holes: loading tensors, SentencePiece models, data sets; safetensors checks its headers since.
FLOORS = {"torch": (2, 10), "sentencepiece": (0, 2, 3), "safetensors": (0, 4), "datasets": (4,)}


def test_dependencies_are_new_enough_to_open_foreign_files() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = dict(word.split(";")[0].split(">=") for word in project["dependencies"])
    for name, floor in FLOORS.items():
        if name in wanted or name != "datasets":
            assert tuple(map(int, wanted[name].split("."))) >= floor, name
