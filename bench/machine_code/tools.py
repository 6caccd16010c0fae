"""Machine code out of what the compiler has built: NVIDIA's cuobjdump and nvdisasm, and nvcc itself."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

__all__ = ["Cubin", "Resources", "built_module", "compiled", "demangled", "extracted", "missing_tools"]

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
_OPTIONS = ["-std=c++17", "-O3", "-cubin"]
_PROCESSES = 2
_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Resources:
    """What a kernel takes of a multiprocessor, as the compiler has written it into the cubin."""

    registers: int
    threads: int  # the most that its blocks have
    shared: int  # bytes that are fixed, those of the system among them
    local: int


@dataclass(frozen=True)
class Cubin:
    """Machine code of one source for one architecture."""

    architecture: str  # "90a"
    compiler: str  # "13.0.88"
    listing: str
    resources: dict[str, Resources]  # by mangled name


def find_tool(name: str) -> str | None:
    """A program on PATH or in the wheel of its name."""
    found = shutil.which(name)
    if found:
        return found
    specification = importlib.util.find_spec("nvidia")
    for folder in specification.submodule_search_locations or [] if specification else []:
        for path in sorted(Path(folder).glob(f"*/bin/{name}")):
            return str(path)
    return None


def missing_tools(*names: str) -> list[str]:
    """Which of some programs are not here."""
    return [name for name in names if find_tool(name) is None]


def built_module() -> Path | None:
    """The compiled kernels of the installed package, which is not imported, if they were built."""
    specification = importlib.util.find_spec("nrc_fast")
    if specification is None or specification.origin is None:
        return None
    return next((Path(specification.origin).parent / "kernels").glob("_cuda.*so"), None)


def extracted(module: Path, architectures: Sequence[str]) -> list[Cubin]:
    """Machine code in a module.

    Parameters
    ----------
    module : Path
        A shared library or extension with device code.
    architectures : sequence of str
        As "90a"; what else the module has is left alone.

    Returns
    -------
    list of Cubin
        One for each source and architecture.
    """
    with TemporaryDirectory() as folder:
        _run("cuobjdump", "-xelf", "all", str(module.resolve()), folder=Path(folder))
        return _read([path for name in architectures for path in sorted(Path(folder).glob(f"*.sm_{name}.cubin"))])


def compiled(
    architectures: Sequence[str], csrc: Path = CSRC, names: Sequence[str] = (), options: Sequence[str] = ()
) -> list[Cubin]:
    """Machine code of the sources, compiled as the build does.

    Parameters
    ----------
    architectures : sequence of str
        As "90a".
    csrc : Path
        The folder of the sources.
    names : sequence of str
        As "gram/tensor"; all kernels if there are none.
    options : sequence of str
        More for nvcc.

    Returns
    -------
    list of Cubin
        One for each source and architecture.
    """
    sources = [csrc / "cuda" / f"{name}.cu" for name in names] or sorted(csrc.glob("cuda/*/*.cu"))
    with TemporaryDirectory() as folder:
        jobs = []
        for architecture in architectures:
            for source in sources:
                target = Path(folder) / f"{source.parent.name}_{source.stem}.sm_{architecture}.cubin"
                code = f"-gencode=arch=compute_{architecture},code=sm_{architecture}"
                jobs.append(["nvcc", *_OPTIONS, *options, f"-I{csrc}", code, "-o", str(target), str(source)])
        _together(lambda job: _run(*job), jobs)
        return _read([Path(job[-2]) for job in jobs])


def demangled(names: Sequence[str]) -> list[str]:
    """Names as they are in the source; without c++filt as they are.

    Parameters
    ----------
    names : sequence of str
        Mangled.

    Returns
    -------
    list of str
        Kernel and template arguments, without namespaces, types of arguments and casts.
    """
    tool = find_tool("c++filt") or find_tool("cu++filt")
    if tool is None:
        return list(names)
    lines = _output([tool], "\n".join(names)).splitlines()
    return [_short(line) for line in lines]


def _short(name: str) -> str:
    name = re.sub(r"nrc_fast::|cuda::|\(anonymous namespace\)::|^void ", "", name)
    name = re.sub(r"\((?:[A-Za-z_][\w:]*)\)(?=-?\d)", "", name)  # (PlaneContent)1
    return re.sub(r"\s+>", ">", re.sub(r"\([^()]*\)$", "", name)).strip()


def _read(paths: Sequence[Path]) -> list[Cubin]:
    return _together(_cubin, paths)


def _cubin(path: Path) -> Cubin:
    sections = _run("cuobjdump", "-elf", str(path))
    found = re.search(r"\.sm_(\w+)\.cubin$", path.name)
    release = re.search(rb"Cuda compilation tools, release [\d.]+, V([\d.]+)", path.read_bytes())
    resources = dict(_resources(_run("cuobjdump", "--dump-resource-usage", str(path)), sections))
    listing = _run("nvdisasm", "-c", str(path)) if resources else ""
    return Cubin(found[1] if found else "", release[1].decode() if release else "", listing, resources)


def _resources(usage: str, sections: str) -> Iterator[tuple[str, Resources]]:
    limits = {}
    for section in re.split(r"\n(?=\.)", sections):
        found = re.match(r"\.nv\.info\.(\S+)\n", section)
        limit = re.search(r"EIATTR_MAX_THREADS\s+Format:\s+\w+\s+Value:\s+(0x[0-9a-f]+)", section)
        if found and limit:
            limits[found[1]] = int(limit[1], 16)
    pattern = r"Function (\S+):\s+REG:(\d+) STACK:\d+ SHARED:(\d+) LOCAL:(\d+)"
    for name, registers, shared, local in re.findall(pattern, usage):
        yield name, Resources(int(registers), limits.get(name, 1024), int(shared), int(local))


def _together(call: Callable[[_Job], _Result], jobs: Sequence[_Job]) -> list[_Result]:
    """The same as map(); what waits for other processes runs side by side."""
    with ThreadPoolExecutor(_PROCESSES) as pool:
        return list(pool.map(call, jobs))


def _run(tool: str, *arguments: str, folder: Path | None = None) -> str:
    path = find_tool(tool)
    if path is None:
        msg = f"{tool} is needed and neither on PATH nor in a wheel: pip install nvidia-cuda-{tool}"
        raise RuntimeError(msg)
    return _output([path, *arguments], folder=folder)


def _output(command: Sequence[str], text: str | None = None, folder: Path | None = None) -> str:
    result = subprocess.run(command, input=text, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        msg = f"{' '.join(command[:3])} ... ended with {result.returncode}: {result.stderr.strip()[-500:]}"
        raise RuntimeError(msg)
    return result.stdout
