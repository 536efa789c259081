"""Which data a checkpoint was made from, and whether these are the same."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from diffusion_ode.configs import documents
from diffusion_ode.configs.documents import Document
from diffusion_ode.errors import UserError

# Keys of a checkpoint's facts.
_NAME, _FINGERPRINT = "data", "data_fingerprint"


@dataclass(frozen=True)
class DataIdentity:
    """A data set's name and fingerprint.

    Args:
      name: of the data set.
      fingerprint: of its images; None for a published checkpoint's data, known by name only.
    """

    name: str
    fingerprint: str | None = None

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Self | None:
        """What a checkpoint knows of its data; None if nothing."""
        name, fingerprint = facts.get(_NAME), facts.get(_FINGERPRINT)
        if name is None and fingerprint is None:
            return None
        return cls(name or "data", fingerprint)

    def facts(self) -> dict[str, Any]:
        """To be saved with a checkpoint."""
        known = {_NAME: self.name, _FINGERPRINT: self.fingerprint}
        return {fact: value for fact, value in known.items() if value is not None}

    def fits(self, loaded: "DataIdentity") -> bool:
        """Whether the data that were loaded may be these, as far as these are known."""
        if self.fingerprint is None:
            return self.name == loaded.name
        return self.fingerprint == loaded.fingerprint

    def __str__(self):
        return self.name if self.fingerprint is None else f"{self.name} ({self.fingerprint})"


def check_data(
    facts: Mapping[str, Any], loaded: DataIdentity, what: str, say: Callable[[str], None]
) -> None:
    """Refuses to go on with data that a checkpoint was not made from.

    Args:
      facts: of the checkpoint.
      loaded: the data there are.
      what: the checkpoint, for sentences.
      say: takes a sentence if they could be compared by name only.

    Raises:
      UserError: they are others.
    """
    made_from = DataIdentity.of_facts(facts)
    if made_from is None:
        return
    if not made_from.fits(loaded):
        raise UserError(
            f"{what} was made from the data {made_from}, but the data now are {loaded}: restore"
            " those data, or name another --workdir."
        )
    if made_from.fingerprint is None:
        say(f"the data of {what} are known by name only: {made_from}")


def check_held_out(document: Document, held_out: int, what: str, split: str, remedy: str) -> None:
    """Refuses to take images for held-out ones that a checkpoint was trained on.

    Args:
      document: of the experiment that the checkpoint was trained in, on the same data.
      held_out: images at the end of the training set that are held out now.
      what: the checkpoint, for the sentence.
      split: which the images are used as; as "train" those count that it was not trained on.
      remedy: the sentence's end; it may name the checkpoint's number by {then}.

    Raises:
      UserError: there are such images.
    """
    then = int(documents.rendered_at(document, "data.held_out") or 0)
    wrong = held_out - then if split != "train" else then - held_out
    if wrong > 0:
        was = "was" if split != "train" else "was not"
        raise UserError(
            f"{what} {was} trained on {wrong} of the {split} images that data.held_out ="
            f" {held_out} makes: {remedy.format(then=then)}"
        )


def check_data_of_source(
    facts: Mapping[str, Any],
    loaded: DataIdentity,
    source: str,
    say: Callable[[str], None],
    *,
    asked_for: bool,
) -> None:
    """Refuses a warm start from a run on other data, unless it was asked for: then it is said.

    Args:
      facts: of the checkpoint that the run starts from.
      loaded: the data it will be trained on.
      source: where that checkpoint is, for sentences.
      say: takes a sentence if the data are others.
      asked_for: whether the source was named on the command line, for this launch.

    Raises:
      UserError: they are others, and the source is the experiment's own.
    """
    made_from = DataIdentity.of_facts(facts)
    if made_from is None or made_from.fits(loaded):
        return
    if not asked_for:
        raise UserError(
            f"The warm start's source {source} was trained on {made_from}, but the data now are"
            f" {loaded}: restore those data, or give --init_from={source} to go on from it on"
            " others."
        )
    say(f"starting on other data: {made_from} → {loaded}")
