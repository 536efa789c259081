"""A checkpoint goes on with the data it was made from, as far as these are known."""

import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.training.data_identity import DataIdentity, check_data, check_data_of_source

OLD = DataIdentity("imagenet32_old", "0123456789abcdef")
NEW = DataIdentity("imagenet32_new", "fedcba9876543210")
SOURCE = "runs/imagenet32_old_vp"
BOTH = r"imagenet32_old \(0123456789abcdef\).* imagenet32_new \(fedcba9876543210\)"


def test_facts_tell_the_data_again():
    assert DataIdentity.of_facts(OLD.facts()) == OLD
    assert DataIdentity.of_facts(DataIdentity("cifar10").facts()) == DataIdentity("cifar10")
    assert DataIdentity.of_facts({"digest": "1"}) is None


def test_other_data_are_refused_naming_both():
    check_data(OLD.facts(), OLD, "checkpoint 2", pytest.fail)
    with pytest.raises(UserError, match=f"^checkpoint 2 was made from the data {BOTH}: restore"):
        check_data(OLD.facts(), NEW, "checkpoint 2", pytest.fail)


def test_data_of_the_same_name_and_other_images_are_others():
    with pytest.raises(UserError, match="made from the data"):
        check_data(
            OLD.facts(), DataIdentity(OLD.name, NEW.fingerprint), "checkpoint 2", pytest.fail
        )


def test_data_known_by_name_only_are_compared_by_name_and_said():
    said = []
    published = DataIdentity(OLD.name).facts()
    check_data(published, OLD, "checkpoint 600", said.append)
    assert said == ["the data of checkpoint 600 are known by name only: imagenet32_old"]
    with pytest.raises(UserError, match=r"imagenet32_old, but the data now are imagenet32_new \("):
        check_data(published, NEW, "checkpoint 600", pytest.fail)


@pytest.mark.parametrize("asked_for", [True, False])
def test_warm_start_on_the_same_data_says_nothing(asked_for):
    for facts in (OLD.facts(), DataIdentity(OLD.name).facts(), {}):
        check_data_of_source(facts, OLD, SOURCE, pytest.fail, asked_for=asked_for)


def test_warm_start_from_the_parents_run_on_other_data_is_refused():
    remedy = f"give --init_from={SOURCE} to go on"
    with pytest.raises(UserError, match=f"{SOURCE} was trained on {BOTH}: .*{remedy}"):
        check_data_of_source(OLD.facts(), NEW, SOURCE, pytest.fail, asked_for=False)


def test_warm_start_asked_for_on_other_data_is_said_in_a_line():
    said = []
    check_data_of_source(OLD.facts(), NEW, SOURCE, said.append, asked_for=True)
    assert said == [f"starting on other data: {OLD} → {NEW}"]
