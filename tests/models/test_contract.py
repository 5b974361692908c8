"""Every model that the project ships keeps the contract."""

from pathlib import Path

import pytest

from nuppl.language.check import check, format_report
from nuppl.language.loading import load_models

ROOT = Path(__file__).parents[2]
FILES = [*sorted((ROOT / "models").glob("*.py")), ROOT / "examples" / "near_far.py"]


def test_there_are_models():
    assert "counting.py" in [file.name for file in FILES]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_model_of_the_file_keeps_the_contract(file):
    for model in load_models(file).values():
        report = check(model)
        assert report.passed, format_report(report)
        assert not [f for f in report.findings if f.severity == "warning"], format_report(report)
        assert model.doc, f"{model.name} has no docstring"
        assert set(model.interest) <= {row.name for row in report.sites if row.kind == "parameter"}
