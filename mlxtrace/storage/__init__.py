"""Files: one writer, whole or not at all, and one reader, which says what is wrong with a file.

path = writable("out/x.json")     # InputError where nothing can be written, before any work is done
write_json(path, value)           # write_csv, save_arrays (.npz), save_tensors (.safetensors)
load_arrays(path, "CausalTrace")  # LoadError for what is not there, is another file, or is damaged
"""

from .atomic import create, write_atomic, writing
from .checksums import digest
from .formats import kind_of, load_arrays, plain, read_object, read_text, save_arrays, write_csv, write_json
from .litter import remove_litter
from .locks import locked
from .places import check_format, named, readable, readable_folder, writable, writable_folder
from .tensors import load_tensors, save_tensors

__all__ = [
    "check_format",
    "create",
    "digest",
    "kind_of",
    "load_arrays",
    "load_tensors",
    "locked",
    "named",
    "plain",
    "read_object",
    "read_text",
    "readable",
    "readable_folder",
    "remove_litter",
    "save_arrays",
    "save_tensors",
    "writable",
    "writable_folder",
    "write_atomic",
    "write_csv",
    "write_json",
    "writing",
]
