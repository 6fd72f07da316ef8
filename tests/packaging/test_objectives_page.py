"""The page about the objectives has a row for each, as the table describes it."""

from pathlib import Path

from dft_plugin.core.objectives import describe_objectives

PAGE = Path(__file__).parents[2] / "docs" / "objectives.md"


def test_the_page_has_the_table_of_the_code():
    rows = [line.split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    found = {cells[0].strip("| `"): cells for cells in rows}
    for objective in describe_objectives():
        cells = found[objective["name"]]
        assert cells[1].replace("\\|", "|") == objective["formula"]
        assert cells[3].replace("\\|", "|") == objective["source"]
        assert all(f"`{option}` ({value})" in cells[2] for option, value in objective["options"].items())
