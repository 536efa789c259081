"""The experiments, one file per data set; importing the package registers those of every file.

See `registry` for how one is written.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)
