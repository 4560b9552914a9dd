"""Who is champion, who was, and why: the alias in the registry, and its history in the versions' tags.

The history of a model stands in the tags of its champion alone: which versions were champion before it, and which it
stands in for since a rollback. Tags are written first and the alias moves last, so that a process that dies in between
leaves the old champion with the old history.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from tasks.registry import tracking
from tasks.registry.turns import taking_turns
from waymark.errors import ModelError
from waymark.inference.references import DEFAULT_ALIAS

PROMOTION, ROLLBACK = "waymark.promotion.", "waymark.rollback."
EARLIER, LATER = (
    f"{PROMOTION}earlier",
    f"{PROMOTION}later",
)  # champions before and, since a rollback, after; nearest first
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
    """Find a version.

    Raises:
        ModelError: the registry has no such model, version or alias; it says what there is.
    """
    store = tracking.client()
    try:
        if version_or_alias.isdigit():
            return store.get_model_version(name, version_or_alias)
        return store.get_model_version_by_alias(name, version_or_alias)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # the latter for an alias
            raise
        raise ModelError(f"the registry has no {version_or_alias} of {name}; {_known(store, name)}") from None


def _known(store: MlflowClient, name: str) -> str:
    models = {its.name: its for its in store.search_registered_models()}
    if name not in models:
        return f"it has the models {', '.join(sorted(models))}" if models else "it is empty: register one with make run"
    versions = sorted(int(its.version) for its in store.search_model_versions(f"name = '{name}'"))
    aliases = ", ".join(sorted(models[name].aliases)) or "no alias"
    return f"it has {aliases} and the versions {', '.join(map(str, versions))}"


def champion_of(name: str) -> str | None:
    """Give the champion's version; None where there is none."""
    try:
        aliases = tracking.client().get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return str(aliases[DEFAULT_ALIAS]) if DEFAULT_ALIAS in aliases else None


def history(name: str) -> tuple[list[str], str | None, list[str]]:
    """Give the versions that were champion before, the oldest first; the champion; and those it stands in for."""
    champion = champion_of(name)
    if champion is None:
        return [], None, []
    tags = version_of(name, champion).tags
    return _listed(tags, EARLIER)[::-1], champion, _listed(tags, LATER)


def promote(name: str, version: str, over: str | None, reason: str, evidence: str = "") -> Moved:
    """Make a version champion, with the one that it was held against as the one before.

    Args:
        name: of the registered model.
        version: the new champion.
        over: the champion that it was held against; None where there was none.
        reason: in one line.
        evidence: URI of an artifact.

    Raises:
        ModelError: the champion is another one by now.
    """
    with taking_turns(f"champion-{name}"):
        _check_still(name, over)
        earlier = [] if over is None else [over, *_listed(version_of(name, over).tags, EARLIER)]
        tags = {"verdict": "promoted", "reason": reason, "evidence": evidence, "at": _now()}
        _tag(name, version, {f"{PROMOTION}{key}": value for key, value in tags.items()})
        _link(name, version, earlier[:LONGEST], [])
        moved = _move(name, over, version, f"champion since {_now()}: {reason}")
        _untag(name, version, LEFT, f"{ROLLBACK}reason", f"{ROLLBACK}at")
        if over is not None:
            _describe(name, over, f"champion until {_now()}, when version {version} was promoted")
        return moved


def refuse(name: str, version: str, reason: str, evidence: str = "") -> None:
    """Write down why a version did not become champion; the history of one that once was is left alone."""
    with taking_turns(f"champion-{name}"):
        tags = {"verdict": "refused", "reason": reason, "evidence": evidence, "at": _now()}
        _tag(name, version, {f"{PROMOTION}{key}": value for key, value in tags.items()})
        _describe(name, version, f"refused on {_now()}: {reason}")


def roll_back(name: str, reason: str = "", *, forward: bool = False) -> Moved:
    """Make the champion before this one champion again, or with `forward` the one that a rollback left.

    Versions that are no longer in the registry are passed over.

    Raises:
        ModelError: there is no champion, or none in that direction.
    """
    with taking_turns(f"champion-{name}"):
        champion = champion_of(name)
        if champion is None:
            raise ModelError(f"{name} has no champion to roll back; {_known(tracking.client(), name)}")
        tags = version_of(name, champion).tags
        earlier, later = (_existing(name, _listed(tags, key)) for key in (EARLIER, LATER))
        way = later if forward else earlier
        if not way:
            end = "the newest of its history: nothing was rolled back" if forward else "the first of its history"
            raise ModelError(f"version {champion} of {name} is {end}; promote another with python -m flows.promote")
        target, *rest = way
        behind = [champion, *(earlier if forward else later)]
        because = f": {reason}" if reason else ""
        if not forward:  # no later night may undo what an operator did
            _tag(name, champion, {LEFT: f"on {_now()} for version {target}{because}"})
        _link(name, target, *((behind, rest) if forward else (rest, behind)))
        told = f"{'forward' if forward else 'rolled back'} from version {champion}{because}"
        _tag(name, target, {f"{ROLLBACK}reason": told, f"{ROLLBACK}at": _now()})
        moved = _move(name, champion, target, f"champion since {_now()}, {told}")
        _untag(name, target, LEFT)
        verb = "went forward" if forward else "rolled back"
        _describe(name, champion, f"{verb} on {_now()} to version {target}{because}")
        return moved


def _link(name: str, version: str, earlier: Sequence[str], later: Sequence[str]) -> None:
    """Write the history on both sides of a version."""
    for whole, first, versions in ((EARLIER, PREVIOUS, earlier), (LATER, NEXT, later)):
        if versions:
            _tag(name, version, {whole: " ".join(versions), first: versions[0]})
        else:
            _untag(name, version, whole, first)


def _move(name: str, before: str | None, version: str, line: str) -> Moved:
    tracking.client().set_registered_model_alias(name, DEFAULT_ALIAS, version)
    _describe(name, version, line)
    return Moved(name, before, version)


def _check_still(name: str, over: str | None) -> None:
    now = champion_of(name)
    if now != over:
        raise ModelError(
            f"the champion of {name} is version {now} by now, and the challenger was held against {over}; run"
            " python -m flows.promote again"
        )


def _tag(name: str, version: str, tags: dict[str, str]) -> None:
    store = tracking.client()
    for key, value in tags.items():
        store.set_model_version_tag(name, version, key, value)


def _untag(name: str, version: str, *keys: str) -> None:
    store, tags = tracking.client(), version_of(name, version).tags
    for key in keys:
        if key in tags:
            store.delete_model_version_tag(name, version, key)


def _describe(name: str, version: str, line: str) -> None:
    """Write our line of a version's description, and leave what people wrote below it."""
    theirs = [its for its in (version_of(name, version).description or "").splitlines() if not its.startswith(SIGN)]
    tracking.client().update_model_version(name, version, "\n".join([f"{SIGN}{line}", *theirs]))


def _listed(tags: dict[str, str], key: str) -> list[str]:
    return tags.get(key, "").split()


def _existing(name: str, versions: Sequence[str]) -> list[str]:
    there = {str(its.version) for its in tracking.client().search_model_versions(f"name = '{name}'")}
    return [version for version in versions if version in there]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
