from __future__ import annotations

import numpy as np
import torch

from trainables.network.standardizer import Standardizer


def test_statistics_by_hand_whatever_the_parts() -> None:
    generator = np.random.default_rng(0)
    features = torch.from_numpy(generator.normal(1000.0, [[[1e-3, 5.0, 0.0]]], size=(12, 4, 3)).astype(np.float32))
    whole, parted = Standardizer(3), Standardizer(3)
    assert torch.equal(whole(features), features), "unfitted, it changes nothing"
    whole.fit(lambda: [features])
    parted.fit(lambda: features.split(5))
    flat = features.double().reshape(-1, 3).numpy()
    np.testing.assert_allclose(whole.mean, flat.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(whole.std[:2], flat.std(axis=0)[:2], rtol=1e-3)
    assert whole.std[2] == 1, "a feature that does not vary is centred only"
    torch.testing.assert_close(parted.std, whole.std)
    standardised = whole(features)[..., 1]
    assert abs(float(standardised.mean())) < 1e-4
    assert abs(float(standardised.std(correction=0)) - 1) < 1e-4
