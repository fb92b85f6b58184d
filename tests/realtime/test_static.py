"""The modules as a site serves them: Django can hash them, imports included."""

from __future__ import annotations

import re
from pathlib import Path

from django.contrib.staticfiles.storage import ManifestStaticFilesStorage
from django.core.files.storage import FileSystemStorage

import realtime

STATIC = Path(realtime.__file__).parent / "static"


class HashedModules(ManifestStaticFilesStorage):
    support_js_module_import_aggregation = True


def test_modules_can_be_served_under_hashed_names(tmp_path: Path) -> None:
    source = FileSystemStorage(STATIC)
    storage = HashedModules(location=tmp_path, base_url="/static/")
    paths = {str(file.relative_to(STATIC)): file for file in STATIC.rglob("*") if file.is_file()}
    for path, file in paths.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(file.read_bytes())
    hashed = {}
    for path, name, processed in storage.post_process({path: (source, path) for path in paths}):
        assert not isinstance(processed, Exception), f"{path}: {processed}"
        hashed[path] = name
    for path, name in hashed.items():
        for target in re.findall(r'^import .*"\./(.+)";$', (tmp_path / name).read_text(), re.MULTILINE):
            if path.endswith(".js"):
                assert str(Path(path).parent / target) in hashed.values(), f"{path} imports {target}"
