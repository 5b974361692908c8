"""The pictures of the documentation from a finished run: `python examples/pictures.py runs/reactor`."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

from nuppl.report.canvas import style
from nuppl.report.figures_corner import corner
from nuppl.report.figures_spectra import spectra
from nuppl.results.metadata import metadata
from nuppl.results.storage import load

DOCS = Path(__file__).parents[1] / "docs"


def main(run: Path) -> None:
    """Write docs/<model>-posterior.svg and docs/<model>-spectra.svg."""
    groups = load(run / "posterior.nc")
    said = metadata(groups)
    with style():
        pictures = {
            "posterior": corner(groups, said["interest"]),
            "spectra": spectra(groups, said["panels"], said["reference"])[0],
        }
    for name, picture in pictures.items():
        if picture is not None:
            svg = base64.b64decode(picture.source.partition("base64,")[2])
            (DOCS / f"{said['model']}-{name}.svg").write_bytes(svg)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
