"""C files of this project as libraries: compiled once for each processor, where there is a compiler. Knows no function
of theirs.

Without a compiler, or where `GROUPWISE_KERNELS=off`, PyTorch's own operations do the same, slower.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from groupwise.places import cache_folder

log = logging.getLogger(__name__)

HEADERS = Path(__file__).parent
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC", "-w")
WIDTH = 16
"""Numbers that the functions take at once: sizes must be multiples of it."""
COMPILE_SECONDS = 60


@cache
def compiled(source: Path) -> ctypes.CDLL | None:
    """The library of a C file, compiled if it is not yet; None where it cannot be. Kept in the cache folder."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if os.environ.get("GROUPWISE_KERNELS") == "off" or compiler is None:
        return None
    try:
        return ctypes.CDLL(str(_library(compiler, source)))
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("%s cannot be used, which makes a step slower (%s)", source.name, str(error)[:300])
        return None


def _library(compiler: str, source: Path) -> Path:
    """The shared library, by everything that it depends on: one place per source, compiler and processor."""
    texts = [file.read_bytes() for file in (source, *sorted(HEADERS.glob("*.h")))]
    settings = repr((FLAGS, compiler, os.stat(compiler).st_mtime, processor())).encode()
    path = cache_folder() / "kernels" / f"{hashlib.sha256(b''.join([*texts, settings])).hexdigest()[:16]}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            new = Path(folder) / "kernels.so"
            words = [compiler, *FLAGS, f"-I{HEADERS}", "-o", str(new), str(source), "-lm"]
            done = subprocess.run(words, capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False)
            if done.returncode:
                raise OSError(f"{compiler}: {' '.join(done.stderr.split())}")
            new.replace(path)
    return path


def processor() -> str:
    """What `-march=native` reads of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "".join(line for line in dict.fromkeys(lines) if line.startswith(("model name", "flags", "Features")))
    except OSError:
        return platform.processor()
