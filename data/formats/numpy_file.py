"""NumPy's .npy and .npz without pickles, and with sizes checked before memory is taken."""

import io
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

import numpy as np

from data.errors import reading
from data.formats.archive import open_zip, zip_entry
from diffusion_ode.foreign import open_regular, read_up_to
from diffusion_ode.foreign_arrays import ArrayKind, read_header

_NPZ = "a whole .npz file without pickles"
_NPY = "a whole .npy file without pickles"
_MAX_LISTED = 1 << 50  # bytes of an .npz that are not unpacked, as only its headers are read


def npz_kinds(path: Path) -> dict[str, ArrayKind]:
    """The arrays of an .npz by name, by their headers; DamagedData if it is damaged."""
    kinds = {}
    with reading(path, _NPZ), open_regular(path) as file:
        archive = open_zip(file, str(path), max_bytes=_MAX_LISTED, expected=_NPZ)
        for entry in archive.infolist():
            with zip_entry(archive, str(path), entry, _NPZ) as member:
                kinds[entry.filename.removesuffix(".npy")] = read_header(member).kind
    return kinds


def read_npz(
    file: Path | bytes, label: str, *, max_bytes: int, names: Collection[str] | None = None
) -> dict[str, np.ndarray]:
    """The uint8 arrays of an .npz by name, or some of them; arrays of other types are left out.

    Raises DamagedData for what is damaged, pickled, or larger than `max_bytes`.
    """
    arrays = {}
    with reading(label, _NPZ):
        content = open_regular(file) if isinstance(file, Path) else io.BytesIO(file)
        with (
            content,
            open_zip(content, label, max_bytes=max_bytes, expected=_NPZ) as archive,
        ):
            for entry in archive.infolist():
                name = entry.filename.removesuffix(".npy")
                if name == entry.filename or (names is not None and name not in names):
                    continue
                with zip_entry(archive, label, entry, _NPZ) as member:
                    array = _read_npy(member, entry)
                if array is not None:
                    arrays[name] = array
    return arrays


def open_npy(path: Path) -> np.ndarray:
    """The array of an .npy file as a read-only memory map; DamagedData if it is none."""
    with reading(path, _NPY), open_regular(path) as file:
        header = read_header(file)
        start, kind = file.tell(), header.kind
        if kind.dtype.hasobject or kind.dtype.itemsize == 0:
            raise ValueError("an array of Python objects")
        there = path.stat().st_size - start
        if header.size != there:
            raise ValueError(f"shape {kind.shape} in {there} bytes")
        order = "F" if header.fortran else "C"
        return np.memmap(file, kind.dtype, "r", start, kind.shape, order)


def _read_npy(file: BinaryIO, entry: zipfile.ZipInfo) -> np.ndarray | None:
    header = read_header(file)
    dtype, shape = header.kind
    if dtype.hasobject:
        raise ValueError("an array of Python objects")
    if dtype != np.uint8:
        return None
    # The header's shape is a claim: believed only if the file has as many bytes.
    if header.size > entry.file_size:
        raise ValueError(f"shape {shape} in {entry.file_size} bytes")
    content = read_up_to(file, header.size + 1)
    if len(content) != header.size:
        raise ValueError(f"not as many bytes as its shape {shape} says")
    return np.frombuffer(content, np.uint8).reshape(shape, order="F" if header.fortran else "C")
