"""Imports only go down the floors of the house, and folders of one floor do not import each other."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nuppl

FLOORS = (
    {"errors", "typing", "units"},
    {"language", "physics", "neural", "data"},
    {"results", "experiments", "optimize"},
    {"sampling"},
    {"learning"},
    {"inference", "frequentist"},
    {"diagnostics"},
    {"report"},
    {"cli"},
)
FLOOR = {folder: number for number, folders in enumerate(FLOORS) for folder in folders}
WITHOUT_PYRO = {"errors", "typing", "units", "physics", "neural", "data"}
WITH_ARVIZ = {"results", "report"}
ROOT = Path(nuppl.__file__).parent


def imports(file: Path, root: Path) -> Iterator[str]:
    """Every dotted name that a file imports, inside functions too: `from a import b` gives a.b."""
    package = (root.name, *file.relative_to(root).parent.parts)
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) + "." if node.level else ""
            yield from (f"{base}{node.module + '.' if node.module else ''}{alias.name}" for alias in node.names)


def violation(folder: str, imported: str, root: str) -> str | None:
    """Why a file of `folder` may not import a name, or None."""
    top, _, rest = imported.partition(".")
    if top == "pyro" and folder in WITHOUT_PYRO:
        return "knows torch but not Pyro"
    if top == "arviz" and folder not in WITH_ARVIZ:
        return "leaves ArviZ to results and report"
    target = rest.partition(".")[0]
    if top != root or target not in FLOOR or target == folder or folder == root:
        return None
    return None if FLOOR[target] < FLOOR[folder] else "may only import from floors below"


def violations(root: Path) -> list[str]:
    found = []
    for file in sorted(root.rglob("*.py")):
        inside = file.relative_to(root).parts
        folder = inside[0].removesuffix(".py") if inside != ("__init__.py",) else root.name
        if folder not in FLOOR and folder != root.name:
            found.append(f"{file.relative_to(root)}: no floor is known for {folder}")
            continue
        for imported in imports(file, root):
            reason = violation(folder, imported, root.name)
            if reason:
                found.append(f"{file.relative_to(root)}: {folder} {reason}, not {imported}")
    return found


def test_imports_only_go_down():
    assert len(list(ROOT.rglob("*.py"))) > 20
    assert violations(ROOT) == []


def test_folders_are_two_deep():
    assert [f for f in ROOT.rglob("*.py") if len(f.relative_to(ROOT).parts) > 2] == []


@pytest.mark.parametrize(
    ("file", "line", "reason"),
    [
        ("language/site.py", "from house.results import schema", "floors below"),
        ("language/site.py", "import house.physics.mixing", "floors below"),
        ("language/site.py", "def late():\n    from ..cli import main", "floors below"),
        ("errors.py", "from house import units", "floors below"),
        ("physics/mixing.py", "import pyro.distributions as dist", "not Pyro"),
        ("inference/nuts.py", "from arviz import ess", "ArviZ"),
        ("attic/old.py", "import math", "no floor"),
    ],
)
def test_a_wrong_import_is_found(tmp_path, file, line, reason):
    house = tmp_path / "house"
    for folder in ("language", "physics", "results", "inference", "attic", "cli"):
        (house / folder).mkdir(parents=True)
    (house / "cli" / "main.py").write_text("import arviz_free\nfrom house.language import site\nfrom . import other\n")
    (house / "language" / "table.py").write_text(
        "import pyro\nfrom .site import Site\nfrom ..errors import InputError\n"
    )
    (house / "results" / "store.py").write_text("import arviz\nfrom house.language.table import Table\n")
    assert violations(house) == []
    (house / file).write_text(line + "\n")
    found = violations(house)
    assert len(found) == 1 and found[0].startswith(f"{file}: ") and reason in found[0]


@pytest.mark.parametrize("statement", ["import nuppl", "import nuppl.cli.main", "import nuppl; dir(nuppl)"])
def test_help_needs_neither_torch_nor_pyro(statement):
    program = f"{statement}\nimport sys\nprint(sorted({{'torch', 'pyro', 'arviz', 'matplotlib'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_root_exports_what_it_says():
    assert set(nuppl.__all__) <= set(dir(nuppl))
    for name in nuppl.__all__:
        home = getattr(nuppl, name).__module__
        floors = ("language", "experiments", "learning", "sampling", "report")
        assert home.startswith(tuple(f"nuppl.{floor}." for floor in floors))
    with pytest.raises(AttributeError, match="nothing_like_this"):
        _ = nuppl.nothing_like_this
