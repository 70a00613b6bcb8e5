"""On a CPU everything is float32, whatever the recipe asks for."""

from __future__ import annotations

import pytest
import torch

from trainables.compute.precision import autocast, best_device, gradient_scaler
from trainables.recipe.sections import Precision


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_a_cpu_computes_in_float32(precision: Precision, cpu: torch.device) -> None:
    layer = torch.nn.Linear(4, 4)
    with autocast(cpu, precision):
        assert layer(torch.ones(1, 4)).dtype == torch.float32
    assert not gradient_scaler(cpu, precision).is_enabled()


def test_best_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, kind in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert best_device().type == kind


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_computes_in_half_precision_where_allowed() -> None:
    gpu = torch.device("cuda")
    layer = torch.nn.Linear(4, 4).to(gpu)
    with autocast(gpu, "auto"):
        assert layer(torch.ones(1, 4, device=gpu)).dtype in (torch.bfloat16, torch.float16)
    with autocast(gpu, "float32"):
        assert layer(torch.ones(1, 4, device=gpu)).dtype == torch.float32
    assert not gradient_scaler(gpu, "float32").is_enabled()
