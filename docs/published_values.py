"""What differs from the papers, as registered: writes docs/published_values.md.

python -m docs.published_values
"""

from pathlib import Path

from diffusion_ode.configs import documents
from diffusion_ode.evaluation.published_figures import FIGURES, figures_on
from experiments import registry
from experiments.config.conversion import to_document

PAGE = Path(__file__).resolve().parent / "published_values.md"
_HEAD = """\
# Published values and ours

`python -m docs.published_values` writes this page from the registered experiments. What the paper
and its released configurations state is kept in `tests/golden/published_values.json`; a test
compares every value of it with the experiments, and refuses a difference that is not named here.
"All of" a paper are its experiments on data of which figures are published.

## What differs, and why

| value | here | published | why | experiments |
|---|---|---|---|---|
"""
_FIGURES = """
## Published figures

Bits per dimension, each on the test images of its data set. Figures on two data sets are never
compared, and the two releases of ImageNet32 are two.

| data | system | bpd | source |
|---|---|---|---|
"""


def page() -> str:
    """What the page must hold."""
    rows: dict[tuple[str, ...], list[registry.Entry]] = {}
    every = [
        entry
        for entry in registry.entries()
        if registry.departures_of(entry) or figures_on(registry.images_of(entry))
    ]
    for entry in every:
        document = to_document(registry.configuration_of(entry))
        for path, (published, why) in registry.departures_of(entry).items():
            ours = documents.rendered_at(document, path) or "(absent)"
            row = (f"`{path}`", f"`{ours.partition('(')[0]}`", f"{published}", why)
            rows.setdefault(row, []).append(entry)
    differences = (_row(*row, _named(those, every)) for row, those in rows.items())
    figures = (_row(f.data, f.system, f"{f.bpd:.2f}", f.source) for f in FIGURES)
    return _HEAD + "".join(differences) + _FIGURES + "".join(figures)


def _named(those: list[registry.Entry], every: list[registry.Entry]) -> str:
    """Their names, or whose they are where they are all of somebody's."""
    papers = {registry.ancestry(entry)[0].source for entry in those}
    of_papers = [entry for entry in every if registry.ancestry(entry)[0].source in papers]
    if those == every:
        return "all"
    if those == of_papers:
        return f"all of {' and '.join(sorted(str(paper).partition(',')[0] for paper in papers))}"
    return ", ".join(f"`{entry.name}`" for entry in those)


def _row(*cells: str) -> str:
    escaped = (cell.replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(escaped)} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
