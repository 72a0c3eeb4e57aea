"""House rules that a machine can check: names, sizes, docstrings, paths, lazy imports, no unpickling."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "vivavoce"
JUNK = {"utils", "util", "helpers", "helper", "misc", "common", "manager", "managers", "stuff", "tools"}
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:work|root|home|Users|mnt|media|srv)/[\w.-]+")
UNPICKLERS = {f"{m}.{n}" for m in ("pickle", "dill", "joblib") for n in ("load", "loads", "Unpickler")}
HEAVY = ("torch", "transformers", "numpy", "soundfile")


@cache
def tracked() -> tuple[Path, ...]:
    """The files under version control that exist, or a skip where there is no repository."""
    done = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    paths = (ROOT / name for name in done.stdout.decode().split("\0") if name)
    return tuple(p for p in paths if p.is_file())


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(p.relative_to(ROOT)) for p in modules() if not ast.get_docstring(ast.parse(p.read_text("utf-8")))
    ]
    assert not silent, f"no docstring at the top of {silent}"
    rooms = {p.relative_to(PACKAGE).parts[0] for p in modules() if p.parent != PACKAGE}
    assert not [room for room in rooms if not (PACKAGE / room / "__init__.py").exists()]


def test_no_junk_names() -> None:
    parts = {part.removesuffix(".py") for p in tracked() for part in p.relative_to(ROOT).parts}
    assert not parts & JUNK


def test_no_file_is_too_long() -> None:
    code = [p for p in tracked() if p.suffix == ".py"]
    long = {str(p.relative_to(ROOT)): n for p in code if (n := len(p.read_bytes().splitlines())) > 800}
    assert not long, f"more than 800 lines: {long}; split by what each part is about"


def test_no_path_of_one_machine() -> None:
    found = []
    for path in tracked():
        data = path.read_bytes()
        if path == Path(__file__) or b"\0" in data[:8192]:
            continue
        for number, line in enumerate(data.decode("utf-8", errors="replace").splitlines(), 1):
            if hit := MACHINE_PATH.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number} {hit[0]}")
    assert not found, found


def test_nothing_is_unpickled() -> None:
    found = []
    for path in (p for p in tracked() if p.suffix == ".py" and "tests" not in p.parts):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Call) and ast.unparse(node.func) in UNPICKLERS:
                found.append(where)
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                safe = {k.arg: ast.unparse(k.value) for k in node.keywords}.get("weights_only") == "True"
                found += [] if safe else [where]
    assert not found, f"load with safetensors, or torch.load(..., weights_only=True): {found}"


def _modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print('\\n' + ' '.join(sys.modules))"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_importing_the_package_is_light() -> None:
    loaded = _modules_after("import vivavoce; vivavoce.__version__; dir(vivavoce)")
    assert not loaded.intersection(HEAVY)


def test_help_is_light() -> None:
    if importlib.util.find_spec("vivavoce.cli.main") is None:
        pytest.skip("no command line yet")
    loaded = _modules_after(
        "import vivavoce.cli.main\ntry:\n    vivavoce.cli.main.main(['--help'])\nexcept SystemExit:\n    pass"
    )
    assert "typer" in loaded
    assert not loaded.intersection(HEAVY)


def test_public_names_are_sorted_and_real() -> None:
    import vivavoce

    assert list(vivavoce.__all__) == sorted(vivavoce.__all__)
    assert set(vivavoce.__all__) == {*vivavoce._DOORS, "__version__"}
    for name in vivavoce.__all__:
        assert getattr(vivavoce, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = vivavoce.nonsense


def test_version_is_the_packaged_one() -> None:
    import tomllib

    import vivavoce

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == vivavoce.__version__
    assert f"## {vivavoce.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
