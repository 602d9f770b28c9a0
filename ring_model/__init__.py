"""The model. Importing it also makes transformers' auto classes open a BailingMoE folder, before or after their own import.

transformers takes seconds to import, and most processes that import this package never do. So nothing of it is imported
here: where `transformers.models.auto.configuration_auto` (the home of `AutoConfig`, loaded by every auto class) is not
loaded yet, a finder waits for it and registers our configuration right after it. The model classes, which are heavy, follow
once a configuration is made. Modules are named by strings: they are no part of a stage's code.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_AWAITED = "transformers.models.auto.configuration_auto"


def _register_configuration() -> None:
    importlib.import_module("ring_model.huggingface_config")


def register_model_classes() -> None:
    """Make transformers' auto classes know the model; called by a configuration when one is made."""
    importlib.import_module("ring_model.huggingface")


class _RegisterAfterImport:
    """A finder that finds one module as usual, and registers our configuration when that module has been executed."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == _AWAITED else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            sys.meta_path.remove(_RegisterAfterImport)
            _register_configuration()

        spec.loader.exec_module = execute_and_register
        return spec


if _AWAITED in sys.modules:
    _register_configuration()
else:
    sys.meta_path.insert(0, _RegisterAfterImport)
