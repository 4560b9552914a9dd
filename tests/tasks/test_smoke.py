"""A registered model that answers wrongly is told apart, in MLflow's own loading."""

import mlflow
import pandas as pd
import pytest
from mlflow.models import infer_signature

from tasks.registry.smoke import smoke_fault

pytestmark = pytest.mark.slow

NAME = "waymark-location"
ASKED = pd.DataFrame({"north": ["a", "b"]})
WANTED = pd.DataFrame({"latitude": [45.0, 45.0], "longitude": [16.0, 16.0]})
MODEL = """
import mlflow
import pandas as pd

class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return pd.DataFrame({answer})

mlflow.models.set_model(Model())
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with the name of the model."""
    its = mlflow.MlflowClient(f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}")
    its.create_registered_model(NAME)
    return its


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("{'longitude': [16.0, 16.0]}", "its answer lacks the columns latitude"),
        ("{'latitude': [45.0], 'longitude': [16.0]}", "it gives 1 answers to 2 rows"),
        (
            "{'latitude': [45.0, 45.0], 'longitude': [16.0, float('nan')]}",
            "its answer has no number for longitude",
        ),
        ("{'latitude': [45.0, 95.0], 'longitude': [16.0, 16.0]}", "it answers latitudes beyond the poles"),
    ],
)
def test_a_wrong_answer_is_a_fault(store, tmp_path, answer, fault):
    code = tmp_path / "model.py"
    code.write_text(MODEL.replace("{answer}", answer))
    folder = tmp_path / "saved"
    mlflow.pyfunc.save_model(
        folder,
        python_model=str(code),
        signature=infer_signature(ASKED, WANTED),
        input_example=ASKED,
        pip_requirements=[],
    )
    version = store.create_model_version(NAME, str(folder)).version
    assert smoke_fault(NAME, version, store.tracking_uri, ("latitude", "longitude")) == fault
