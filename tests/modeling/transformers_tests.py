"""The common tests of transformers, from the unpacked source that RRSIS_TRANSFORMERS_TESTS names.

`.ci/common_tests` fetches that folder and sets the variable. Its `tests` may not be imported under that name, which is
our own; the archive on PyPI also lacks the sub-folders.
"""

import importlib
import os
import sys
import types
from pathlib import Path
from unittest import mock

import pytest

VARIABLE = "RRSIS_TRANSFORMERS_TESTS"
PACKAGE = "transformers_common_tests"
# What the common tests import from sub-folders. The mixins are of exporters and text generators; the last is a
# dictionary for configurations without a nested one.
ABSENT = {
    "exporters.test_export": {"ExportTesterMixin": type("ExportTesterMixin", (), {})},
    "generation.test_utils": {"GenerationTesterMixin": type("GenerationTesterMixin", (), {})},
    "utils.test_configuration_utils": {"config_common_kwargs": {}},
}


def load_common_tests(*names):
    """Modules `tests/<name>.py` of transformers; skips the importing test module where they can't be had."""
    if VARIABLE not in os.environ:
        pytest.skip(f"{VARIABLE} names no source of transformers; .ci/common_tests sets it", allow_module_level=True)
    pytest.importorskip("parameterized", reason="transformers' common tests import it")
    folder = Path(os.environ[VARIABLE]) / "tests"
    if not (folder / "test_modeling_common.py").is_file():
        pytest.fail(f"{VARIABLE}: expected tests/test_modeling_common.py under it, got {os.environ[VARIABLE]!r}")
    if PACKAGE not in sys.modules:
        package = sys.modules[PACKAGE] = types.ModuleType(PACKAGE)
        package.__path__ = [str(folder)]
        for name, content in ABSENT.items():
            if not (folder / f"{name.replace('.', '/')}.py").is_file():
                _stand_in(name, content)
    # The configuration tests import transformers anew from a file which the archive lacks.
    # Those of processors import a helper of transformers' continuous integration, which looks for downloaded files.
    helper = types.ModuleType("fetch_hub_objects_for_ci")
    helper.url_to_local_path = lambda url: url
    sys.modules.setdefault(helper.__name__, helper)
    with mock.patch("transformers.utils.direct_transformers_import", return_value=sys.modules["transformers"]):
        return [importlib.import_module(f"{PACKAGE}.{name}") for name in names]


def _stand_in(name, content):
    parent, _ = name.split(".")
    for full in (f"{PACKAGE}.{parent}", f"{PACKAGE}.{name}"):
        sys.modules.setdefault(full, types.ModuleType(full))
    sys.modules[f"{PACKAGE}.{parent}"].__path__ = []
    vars(sys.modules[f"{PACKAGE}.{name}"]).update(content)
