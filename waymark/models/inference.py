"""Run a locator over records, outside training."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from waymark.images.datamodule import Batch
from waymark.models.locator import Locator


class Outputs(NamedTuple):
    """What the network gives for each record, on the CPU."""

    output: Tensor  # (N, K) raw output of the head
    embedding: Tensor  # (N, D) features that the head sees


def exact_convolutions() -> None:
    """Let a GPU compute in whole float32, as a CPU does: by default its convolutions round to TF32."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def run(locator: Locator, batches: Iterable[Batch]) -> Outputs:
    """Run a locator over batches, on the GPU when there is one; the order stays."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    exact_convolutions()
    locator = locator.to(device).eval()
    outputs, embeddings = [], []
    with torch.inference_mode():
        for batch in tqdm(batches, unit="batch", desc="predict", disable=None):
            embedding = locator.embed(batch.views.to(device), batch.present.to(device))
            outputs.append(locator.head(embedding).cpu())
            embeddings.append(embedding.cpu())
    locator.to("cpu")
    return Outputs(torch.cat(outputs), torch.cat(embeddings))
