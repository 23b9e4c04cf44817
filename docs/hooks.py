"""What MkDocs does not do by itself: pages from the repository's root, and docstrings' examples as code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from griffe import Extension, Object
from mkdocs.structure.files import File

ROOT_FILES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "CITATION.cff": "CITATION.cff",
    "LICENSE": "LICENSE",
}


def on_files(files: Any, config: Any) -> Any:
    """MkDocs' event: add the root's files, with links as seen from the site's root."""
    root = Path(config.config_file_path).parent
    for name, page in ROOT_FILES.items():
        text = (root / name).read_text(encoding="utf-8").replace("](docs/", "](")
        for other, target in ROOT_FILES.items():
            text = text.replace(f"]({other})", f"]({target})")
        files.append(File.generated(config, page, content=text))
    return files


class Examples(Extension):
    """Griffe shows `Examples:` as code, and takes the word that this project uses, `Example:`, for a remark."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Griffe's event for whatever it has read."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
