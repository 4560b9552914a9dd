"""Versions of the registered models: who is champion, who was, and why.

The history of a model stands in the tags of its champion alone: which versions were champion before it, and which it
stands in for since a rollback. Tags are written first and the alias moves last, so that a process that dies in between
leaves the old champion with the old history.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from mlflow.entities.model_registry import ModelVersion

from tasks.registry.store import client, only_one
from waymark.errors import ModelError
from waymark.inference.references import DEFAULT_ALIAS, Reference
from waymark.inference.registry import contents, find_version, get_version

PROMOTION, ROLLBACK = "waymark.promotion.", "waymark.rollback."
EARLIER, LATER = f"{PROMOTION}earlier", f"{PROMOTION}later"  # champions on both sides, nearest first
PREVIOUS, NEXT = f"{PROMOTION}previous_champion", f"{PROMOTION}next_champion"  # the first of each
LEFT = f"{ROLLBACK}left"  # on a version that was rolled back from
LONGEST = 200  # champions that a history goes back to
SIGN = "Promotion: "  # how our line of a description begins


class Moved(NamedTuple):
    """The alias went from one version to another; from None where there was no champion."""

    name: str
    before: str | None
    after: str


def version_of(name: str, version_or_alias: str) -> ModelVersion:
    """Find a version by its number or an alias.

    Raises:
        ModelError: the registry has no such model, version or alias; the message says what there is.
    """
    return get_version(client(), _reference(name, version_or_alias))


def champion_of(name: str) -> str | None:
    """Find the champion's version; None where there is none."""
    champion = find_version(client(), _reference(name, DEFAULT_ALIAS))
    return None if champion is None else str(champion.version)


def _reference(name: str, version_or_alias: str) -> Reference:
    number = version_or_alias.isdigit()
    return Reference(name, version_or_alias if number else None, None if number else version_or_alias)


def history(name: str) -> tuple[list[str], str | None, list[str]]:
    """List the versions that were champion before, the oldest first; the champion; and those it stands in for."""
    champion = find_version(client(), _reference(name, DEFAULT_ALIAS))
    if champion is None:
        return [], None, []
    return _listed(champion, EARLIER)[::-1], str(champion.version), _listed(champion, LATER)


def make_champion(name: str, version: str, previous: str | None, reason: str, evidence: str = "") -> Moved:
    """Move the alias to a version, with the champion that it was compared with as the one before.

    Args:
        name: of the registered model.
        version: the new champion.
        previous: the champion that it was compared with; None where there was none.
        reason: in one line.
        evidence: URI of an artifact.

    Raises:
        ModelError: the champion is another one by now.
    """
    with only_one(f"champion-{name}"):
        _check_still(name, previous)
        earlier = [] if previous is None else [previous, *_listed(version_of(name, previous), EARLIER)]
        _write_verdict(name, version, "promoted", reason, evidence)
        _link(name, version, earlier[:LONGEST], [])
        moved = _move(name, previous, version, f"champion since {_now()}: {reason}")
        untag(name, version, LEFT, f"{ROLLBACK}reason", f"{ROLLBACK}at")
        if previous is not None:
            _describe(name, previous, f"champion until {_now()}, when version {version} was promoted")
        return moved


def refuse(name: str, version: str, reason: str, evidence: str = "") -> None:
    """Write down why a version did not become champion; the history of one that once was is left alone."""
    with only_one(f"champion-{name}"):
        _write_verdict(name, version, "refused", reason, evidence)
        _describe(name, version, f"refused on {_now()}: {reason}")


def roll_back(name: str, reason: str = "", *, forward: bool = False) -> Moved:
    """Make the champion before this one champion again, or with `forward` the one that a rollback left.

    Versions that are no longer in the registry are passed over.

    Raises:
        ModelError: there is no champion, or none in that direction.
    """
    with only_one(f"champion-{name}"):
        found = find_version(client(), _reference(name, DEFAULT_ALIAS))
        if found is None:
            raise ModelError(f"{name} has no champion to roll back; {contents(client(), name)}")
        champion = str(found.version)
        earlier, later = (_existing(name, _listed(found, key)) for key in (EARLIER, LATER))
        way = later if forward else earlier
        if not way:
            end = "the newest of its history: nothing was rolled back" if forward else "the first of its history"
            raise ModelError(f"version {champion} of {name} is {end}; promote another with python -m flows.promote")
        target, *rest = way
        behind = [champion, *(earlier if forward else later)]
        because = f": {reason}" if reason else ""
        if not forward:  # no later night may undo what an operator did
            tag(name, champion, {LEFT: f"on {_now()} for version {target}{because}"})
        _link(name, target, *((behind, rest) if forward else (rest, behind)))
        how = f"{'forward' if forward else 'rolled back'} from version {champion}{because}"
        tag(name, target, {f"{ROLLBACK}reason": how, f"{ROLLBACK}at": _now()})
        moved = _move(name, champion, target, f"champion since {_now()}, {how}")
        untag(name, target, LEFT)
        verb = "went forward" if forward else "rolled back"
        _describe(name, champion, f"{verb} on {_now()} to version {target}{because}")
        return moved


def _write_verdict(name: str, version: str, verdict: str, reason: str, evidence: str) -> None:
    tags = {"verdict": verdict, "reason": reason, "evidence": evidence, "at": _now()}
    tag(name, version, {f"{PROMOTION}{key}": value for key, value in tags.items()})


def _link(name: str, version: str, earlier: Sequence[str], later: Sequence[str]) -> None:
    """Write the history on both sides of a version."""
    for whole, first, versions in ((EARLIER, PREVIOUS, earlier), (LATER, NEXT, later)):
        if versions:
            tag(name, version, {whole: " ".join(versions), first: versions[0]})
        else:
            untag(name, version, whole, first)


def _move(name: str, before: str | None, version: str, line: str) -> Moved:
    client().set_registered_model_alias(name, DEFAULT_ALIAS, version)
    _describe(name, version, line)
    return Moved(name, before, version)


def _check_still(name: str, previous: str | None) -> None:
    now = champion_of(name)
    if now != previous:
        raise ModelError(
            f"the champion of {name} is version {now} by now, and the challenger was compared with {previous}; run"
            " python -m flows.promote again"
        )


def tag(name: str, version: str, tags: dict[str, str]) -> None:
    """Set tags of a version, one after the other."""
    store = client()
    for key, value in tags.items():
        store.set_model_version_tag(name, version, key, value)


def untag(name: str, version: str, *keys: str) -> None:
    """Remove tags of a version, as far as it has them."""
    store, tags = client(), version_of(name, version).tags
    for key in keys:
        if key in tags:
            store.delete_model_version_tag(name, version, key)


def _describe(name: str, version: str, line: str) -> None:
    """Write our line of a version's description, and leave what people wrote below it."""
    lines = (version_of(name, version).description or "").splitlines()
    theirs = [text for text in lines if not text.startswith(SIGN)]
    client().update_model_version(name, version, "\n".join([f"{SIGN}{line}", *theirs]))


def _listed(version: ModelVersion, key: str) -> list[str]:
    return str(version.tags.get(key, "")).split()


def _existing(name: str, versions: Sequence[str]) -> list[str]:
    there = {str(version.version) for version in client().search_model_versions(f"name = '{name}'")}
    return [version for version in versions if version in there]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
