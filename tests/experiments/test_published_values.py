"""A published experiment has the published values, or declares what differs, and why."""

import json
import re
from pathlib import Path

import pytest

from diffusion_ode.configs import documents
from diffusion_ode.evaluation import published_figures
from diffusion_ode.evaluation.in_words import in_words
from docs import published_values
from experiments import registry
from experiments.config.conversion import to_document
from experiments.config.overrides import override
from experiments.registry import Departure
from experiments.systems import I_DODE
from launch.describing import description
from launch.listing import listing

RELEASED = json.loads(
    (Path(__file__).parents[1] / "golden" / "published_values.json").read_text(encoding="utf-8")
)
ENTRIES = [e for e in registry.entries() if e.name in RELEASED["experiments"]]


def undeclared(document, released, declared):
    """Sentences on differences that are not declared, and on declared ones that are none."""
    for path in declared.keys() - released.keys():
        yield f"{path} is declared to differ, but no published value is known"
    for path, value in released.items():
        known = list(value.values()) if isinstance(value, dict) else [value]
        ours = documents.rendered_at(document, path)
        others = [each for each in known if ours not in (repr(each), each)]
        said = declared[path].published if path in declared else None
        if (path in declared) != bool(others):
            yield f"{path} is {ours}, published {value}, declared: {path in declared}"
        elif others and said != others[0]:
            yield f"{path}: published {others[0]}, declared {said}"


def test_the_table_holds_every_published_experiment():
    named = {e.name for e in registry.entries() if e.name.startswith(("cifar10_", "imagenet"))}
    assert named == set(RELEASED["experiments"])


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_values_are_as_published_or_declared_to_differ(entry):
    every = (
        RELEASED["every"] if I_DODE in (entry.source or "") else {}
    )  # of one paper's experiments
    released = {**every, **RELEASED["experiments"][entry.name]}
    assert entry.published == released.pop("bpd")
    document = to_document(registry.configuration_of(entry))
    assert not list(undeclared(document, released, registry.departures_of(entry)))


def test_a_difference_that_nobody_declared_is_found_and_so_is_a_declared_one_that_is_none():
    entry = registry.find("cifar10_vp")
    document = to_document(override(registry.configuration_of(entry), ["train.batch_size=64"]))
    released, declared = {"train.batch_size": 128}, {"train.batch_size": Departure(128, "less")}
    assert list(undeclared(document, released, {}))
    assert not list(undeclared(document, released, declared))
    assert list(undeclared(document, {"train.batch_size": 64}, declared))
    assert list(undeclared(document, {}, declared))


def test_describe_states_what_differs_and_why_until_it_is_set_as_published():
    entry = registry.find("cifar10_aug_vp")
    config = override(registry.configuration_of(entry), ["model.network.blocks=1"])
    said = " ".join(" ".join(description(entry, config, "h100")).split())
    assert "differs from its paper or released configuration in" in said
    assert "train.num_steps: 10000000, published 1950000: the released" in said
    assert "evaluate.ode.solver: Adams, published RK45:" in said
    config = override(config, ["train.num_steps=1950000", "evaluate.ode=None"])
    said = " ".join(description(entry, config, "h100"))
    assert "published 1950000" not in said and "published RK45" not in said


def test_the_page_is_as_the_script_writes_it():
    assert published_values.PAGE.read_text(encoding="utf-8") == published_values.page()


def test_every_row_of_the_page_has_its_columns_and_names_whom_it_is_about():
    cells = [
        re.split(r"(?<!\\)\|", line)[1:-1]
        for line in published_values.page().splitlines()
        if line.startswith("| `")
    ]
    assert {len(row) for row in cells} == {5}
    for path, ours, published, why, named in ([cell.strip() for cell in row] for row in cells):
        stated = (path.strip("`"), published.replace("\\|", "|"), why)
        papers = named.removeprefix("all of ").split(" and ") if named.startswith("all of ") else []
        for entry in ENTRIES:
            source = registry.ancestry(entry)[0].source or ""
            about = f"`{entry.name}`" in named or source.partition(",")[0] in papers
            document = to_document(registry.configuration_of(entry))
            value = (documents.rendered_at(document, stated[0]) or "(absent)").partition("(")[0]
            departs = {
                (at, f"{each.published}", each.why, f"`{value}`" if at == stated[0] else "")
                for at, each in registry.departures_of(entry).items()
            }
            assert about == ((*stated, ours) in departs), (path, entry.name)


def test_our_paper_s_figures_stand_among_those_on_the_same_data():
    ours = {(registry.images_of(e), e.published) for e in ENTRIES if e.published is not None}
    known = {(f.data, f.bpd): f.system for f in published_figures.FIGURES}
    assert ours <= set(known)
    assert ours >= {figure for figure, system in known.items() if system.startswith("i-DODE")}


def test_figures_are_shown_beside_those_on_the_same_data_alone():
    old, new = listing("imagenet32_old"), listing("imagenet32_new")
    assert "VDM 3.72" in old and "VDM" not in new
    assert "Flow Matching 3.53" in new and "Flow Matching" not in old
    assert "DiffEnc" not in old + new  # on which release is not stated
    assert "published (bpd)" not in listing("digits")
    entry = registry.find("imagenet32_new_vp")
    config = override(registry.configuration_of(entry), ["model.network.blocks=1"])
    said = "\n".join(description(entry, config, "h100"))
    assert "3.53  Flow Matching: Lipman et al. 2023, arXiv:2210.02747" in said
    assert "3.72" not in said


@pytest.mark.parametrize(
    ("name", "split", "count", "shown"),
    [
        ("imagenet32_old", "test", 50, True),
        ("imagenet32_old", "test", 49, False),
        ("imagenet32_old", "train", 50, False),
        ("digits", "test", 50, False),
    ],
)
def test_an_evaluation_stands_among_published_ones_on_the_same_images(name, split, count, shown):
    data = {
        "name": name,
        "split": split,
        "num_images": count,
        "split_images": 50,
        "fingerprint": "f",
    }
    result = {"data": data, "ode": None, "bound": None, "images_per_second": None, "quirks": []}
    rows = dict(in_words(result))
    assert rows.get("on the same data") == ("published: i-DODE 3.69; VDM 3.72" if shown else None)
