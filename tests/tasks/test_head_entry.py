"""Options of heads that params.yaml leaves out are those of the heads themselves."""

from dataclasses import asdict

import pytest

from tasks.training.heads import ArcFace, CosFace, SphereFace
from waymark.models.heads import MarginHead, build_landmark_head
from waymark.models.heads.margins import MARGINS


def built(entry):
    options = {name: value for name, value in asdict(entry).items() if name not in ("name", "least_images")}
    return build_landmark_head(entry.name, 4, landmarks=3, options=options)


@pytest.mark.parametrize("kind", [ArcFace, CosFace, SphereFace])
def test_without_a_margin_a_head_has_its_usual_one(kind):
    entry = kind()
    assert entry.margin is None
    assert built(entry).margin == MARGINS[entry.name] == MarginHead(4, 3, kind=entry.name).margin
    assert built(kind(margin=1.25)).margin == 1.25
