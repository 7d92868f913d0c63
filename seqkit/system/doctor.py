"""Diagnosis of an installation and its machine, for users in trouble and for bug reports.

It names no user, host or folder, and gives no value of an environment variable.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import locale
import os
import platform
import re
import shutil
import socket
import sys
import sysconfig
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from seqkit.settings.automatic import MOST_PROCESSES, NARROWEST_BFLOAT16
from seqkit.system import host

__all__ = ["Diagnosis", "Finding", "anonymise", "examine"]

GIB = 1 << 30
LITTLE_MEMORY = LITTLE_DISK = GIB
CORE = ("numpy", "safetensors", "sentencepiece", "sacrebleu", "datasets", "rich")
EXTRAS = {"matplotlib": "plot", "ctranslate2": "ct2", "transformers": "marian"}
SLOW = {"datasets", "sacrebleu", "transformers"}  # only located, not imported: importing takes seconds
OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
# Environment variables that change how seqkit, or a library that it uses, behaves.
NAMES = {
    "COLUMNS",
    "FORCE_COLOR",
    "LD_PRELOAD",
    "LOCAL_RANK",
    "MALLOC_ARENA_MAX",
    "MASTER_ADDR",
    "MASTER_PORT",
    "NO_COLOR",
    "PYTHONPATH",
    "PYTHONUTF8",
    "RANK",
    "TMPDIR",
    "WORLD_SIZE",
}
FAMILIES = (
    "CUDA_",
    "DNNL_",
    "GOMP_",
    "HF_",
    "KMP_",
    "MKL_",
    "NCCL_",
    "OMP_",
    "ONEDNN_",
    "PYTORCH_",
    "SEQKIT_",
    "TORCH_",
)
INSTRUCTIONS = {"AVX2": "avx2", "AVX-512": "avx512f", "AVX-512 BF16": "avx512_bf16", "AMX": "amx_bf16"}
LAUNCHER = b"seqkit.cli.main"  # contained in the script that pip makes of seqkit's entry point


class Finding(NamedTuple):
    """A problem of the installation or the machine, and its remedy."""

    what: str
    remedy: str


@dataclass
class Diagnosis:
    """The result of a diagnosis: warnings, and facts by subject and name."""

    warnings: list[Finding] = field(default_factory=list)
    facts: dict[str, dict[str, str]] = field(default_factory=dict)

    def warn(self, what: str, remedy: str) -> None:
        """Add a problem and its remedy to the warnings."""
        self.warnings.append(Finding(what, remedy))


def examine() -> Diagnosis:
    """Diagnose installation and machine; nothing is changed, and nothing goes over the network."""
    report = Diagnosis()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of libraries on their import
        torch = _versions(report)
        _program(report)
        _machine(report)
        _cuda(report, torch)
        _memory_and_disk(report)
        _threads(report, torch)
        _text(report)
        _environment(report)
        _speed(report, torch)
    return report


def anonymise(text: str) -> str:
    """A text with the names of home folders, users and the host replaced by `~`, `USER` and `HOST`."""
    names = {os.environ.get(name, "") for name in ("USER", "LOGNAME", "USERNAME")}
    homes = {os.environ.get(name, "") for name in ("HOME", "USERPROFILE")}
    with contextlib.suppress(ImportError, KeyError):
        import pwd

        account = pwd.getpwuid(os.getuid())
        names.add(account.pw_name)
        homes.add(account.pw_dir)
    homes |= {os.path.realpath(home) for home in homes if home}
    for home in sorted(homes - {"", "/"}, key=len, reverse=True):
        text = re.sub(rf"{re.escape(home.rstrip('/'))}(?![\w.-])", "~", text)
    for name in names - {""}:
        text = re.sub(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", "USER", text)
    for name in {socket.gethostname(), socket.gethostname().partition(".")[0]} - {""}:
        text = re.sub(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", "HOST", text)
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _imported(name: str) -> tuple[Any, str | None]:
    """A module and None, or None and the error of its import."""
    try:
        return importlib.import_module(name), None
    except Exception as error:
        lines = str(error).splitlines()
        return None, anonymise(f"{type(error).__name__}: {lines[0] if lines else ''}"[:200])


def _versions(report: Diagnosis) -> Any:
    """Note the versions of libraries; returns torch, if it can be imported."""
    facts = report.facts.setdefault("versions", {})
    facts["seqkit"] = _version("seqkit") or "not installed: runs from its source"
    facts["Python"] = f"{platform.python_version()} ({platform.python_implementation()})"
    facts["system"] = anonymise(f"{platform.system()} {platform.release()} {platform.machine()}")
    torch, problem = _imported("torch")
    facts["torch"] = _version("torch") or "missing"
    if problem is not None:
        facts["torch"] += ", broken"
        report.warn(f"torch cannot be imported ({problem})", "install it anew: pip install --force-reinstall torch")
    for name in (*CORE, *EXTRAS):
        version = _version(name)
        install = f"pip install '.[{EXTRAS[name]}]'" if name in EXTRAS else "pip install ."
        if version is None:
            facts[name] = f"not there: {install}" if name in EXTRAS else "missing"
            if name not in EXTRAS:
                report.warn(f"{name} is missing", install)
            continue
        facts[name] = version
        problem = _import_error(name)
        if problem is not None:
            facts[name] += ", broken"
            report.warn(f"{name} {version} cannot be imported ({problem})", f"pip install --force-reinstall {name}")
    return torch


def _import_error(name: str) -> str | None:
    if name not in SLOW:
        return _imported(name)[1]
    try:
        return None if importlib.util.find_spec(name) else "it has no module"
    except (ImportError, ValueError) as error:
        return anonymise(str(error))


def _program(report: Diagnosis) -> None:
    """Which `seqkit` a shell would run: another tool of that name exists."""
    facts = report.facts.setdefault("program", {})
    program = shutil.which("seqkit")
    if program is None:
        facts["seqkit on PATH"] = "none; python -m seqkit works"
        return
    path, scripts = Path(program), Path(sysconfig.get_path("scripts"))
    try:
        with path.open("rb") as stream:
            is_seqkit = LAUNCHER in stream.read(1 << 20)
    except OSError:
        is_seqkit = False
    if path.parent == scripts or path.resolve().parent == scripts.resolve():
        facts["seqkit on PATH"] = "this one" if is_seqkit else "in this Python's folder, but not by pip"
        return
    description = "another installation of seqkit" if is_seqkit else "another program called seqkit"
    facts["seqkit on PATH"] = description
    report.warn(
        f"{description} comes first on PATH: {anonymise(str(path))}",
        "write python -m seqkit, or put this Python's folder of scripts first on PATH",
    )


def _machine(report: Diagnosis) -> None:
    facts = report.facts.setdefault("processor", {})
    flags = host.processor_flags()
    facts["model"] = host.processor_name() or platform.machine()
    facts["cores usable"] = f"{host.cores()} of {os.cpu_count() or 'unknown'}"
    limit = host.processor_share()
    if limit is not None:
        facts["limit on processor time"] = f"{limit:g} cores"
        if limit < host.cores():
            report.warn(
                f"this container may use {limit:g} cores' time, and sees {host.cores()} cores",
                f"set train.processes={max(1, round(limit))}; more would only wait for each other",
            )
    for name, flag in INSTRUCTIONS.items():
        facts[name] = "yes" if flag in flags else "no"
    facts["bfloat16 in hardware"] = "yes" if host.fast_bfloat16() else "no"


def _cuda(report: Diagnosis, torch: Any) -> None:
    facts = report.facts.setdefault("GPU", {})
    if torch is None:
        facts["CUDA"] = "unknown without torch"
        return
    facts["torch's CUDA"] = torch.version.cuda or "none: built for CPUs"
    if not torch.cuda.is_available():
        facts["devices"] = "none"
        if host.nvidia_driver():
            report.warn("there is an NVIDIA driver, but this torch cannot use it", "install torch for your GPU's CUDA")
        return
    facts["devices"] = str(torch.cuda.device_count())
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        capability = f"{device.major}.{device.minor}"
        bfloat16 = "bf16" if device.major >= 8 else "no bf16"
        facts[f"cuda:{index}"] = f"{device.name}, {_size(device.total_memory)}, capability {capability}, {bfloat16}"


def _memory_and_disk(report: Diagnosis) -> None:
    facts = report.facts.setdefault("memory and disk", {})
    memory = host.memory()
    facts["memory"] = _size(memory.total)
    facts["available"] = _size(memory.available)
    facts["limit of the container"] = _size(memory.limit) if memory.limit is not None else "none"
    if memory.available is not None and memory.available < LITTLE_MEMORY:
        report.warn(
            f"only {_size(memory.available)} of memory are available",
            "close other programs; train.batch_tokens=1024 train.processes=1 need least",
        )
    for name, folder, remedy in (
        ("disk free here", ".", "make room: a run keeps train.keep checkpoints and the best"),
        ("disk free for temporary files", _temporary_folder(), "make room, or set TMPDIR to a folder on another disk"),
    ):
        try:
            free: int | None = shutil.disk_usage(folder).free
        except OSError:
            free = None
        facts[name] = _size(free)
        if free is not None and free < LITTLE_DISK:
            report.warn(f"only {_size(free)} of {name}", remedy)


def _temporary_folder() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:  # no folder for temporary files is writable
        return os.environ.get("TMPDIR", "/tmp")


def _threads(report: Diagnosis, torch: Any) -> None:
    facts = report.facts.setdefault("threads", {})
    facts["torch"] = "unknown" if torch is None else str(torch.get_num_threads())
    names = sorted(name for name in os.environ if name.startswith(("OMP_", "GOMP_", "KMP_", "MKL_")))
    facts["set in the environment"] = ", ".join(names) or "nothing"
    requested = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if requested.isdecimal() and int(requested) > host.cores():
        report.warn(
            f"OMP_NUM_THREADS asks for more threads than the {host.cores()} cores there are",
            "unset OMP_NUM_THREADS: threads that share a core wait for each other",
        )


def _text(report: Diagnosis) -> None:
    facts = report.facts.setdefault("text and terminal", {})
    encoding = locale.getencoding()
    facts["encoding of the locale"] = encoding
    facts["encoding of file names"] = sys.getfilesystemencoding()
    if encoding.lower().replace("-", "") != "utf8":
        report.warn(
            f"the locale's encoding is {encoding}, not UTF-8: what is typed and shown may be garbled",
            "export LC_ALL=C.UTF-8, or another locale that ends in UTF-8",
        )
    for name, stream in (("input", sys.stdin), ("output", sys.stdout), ("errors", sys.stderr)):
        facts[name] = "terminal" if stream is not None and stream.isatty() else "file or pipe"
    facts["columns"] = str(shutil.get_terminal_size().columns)
    facts["dumb terminal"] = "yes" if os.environ.get("TERM", "dumb") in ("dumb", "unknown") else "no"


def _environment(report: Diagnosis) -> None:
    offline = report.facts.setdefault("offline switches", {})
    for name in OFFLINE:
        offline[name] = "set" if name in os.environ else "not set"
    effective = {name for name in os.environ if name in NAMES or name.startswith(FAMILIES)}
    printable = sorted(name for name in effective if re.fullmatch("[A-Z0-9_]+", name))
    report.facts["environment"] = {"set and heeded": ", ".join(printable) or "nothing"}


def _speed(report: Diagnosis, torch: Any) -> None:
    """The settings for speed: their values on this machine, and the key that switches each off."""
    facts = report.facts.setdefault("settings for speed (opt out by)", {})
    heap = "on" if host.can_keep_heap() else "not available"
    count = min(host.cores(), MOST_PROCESSES)
    optimizer = "unknown" if torch is None else "on"
    layers = f"from width {NARROWEST_BFLOAT16} on" if host.fast_bfloat16() else "off on this CPU, on on GPUs"
    products = "on" if host.fast_bfloat16() else "off on this CPU, on on GPUs"
    facts["kept heap"] = f"{heap} (train.keep_heap=false)"
    facts["processes"] = f"up to {count} on a CPU, fewer for small batches (train.processes=1: all threads in one)"
    facts["cheap dropout"] = "on on CPUs (train.cheap_dropout=false)"
    facts["fused optimizer"] = f"{optimizer} (train.fused_optimizer=false)"
    facts["bfloat16 layers"] = f"{layers} (train.precision=float32)"
    facts["bfloat16 output products"] = f"{products} (train.output_precision=float32)"
    passive = os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive" or "GOMP_SPINCOUNT" in os.environ
    facts["passive waiting threads"] = "on" if passive else "off; OMP_WAIT_POLICY=PASSIVE turns it on"


def _size(count: int | None) -> str:
    if count is None:
        return "unknown"
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count >> 20} MiB"
