"""Trials that do nothing, so that what is measured is what carries them."""

from __future__ import annotations

import json
from typing import Any

import ray.tune

from tune.cluster.ray_trial import RayTrial, result_of


class TrivialTrial(ray.tune.Trainable):  # type: ignore[misc]
    """Reports a formula `epochs` times, in the words of `tune.cluster.ray_trial.RayTrial`."""

    get_auto_filled_metrics = RayTrial.get_auto_filled_metrics

    def setup(self, config: dict[str, Any]) -> None:
        """Begin a trial."""
        recipe = config["recipe"]
        self.recipe, self.epoch = json.loads(recipe) if isinstance(recipe, str) else recipe, 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another in the same process."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """One report: what a real trial says."""
        self.epoch += 1
        score = 1 - 1 / (self.epoch + 1)  # of all trials alike: ASHA prunes none
        report: dict[str, Any] = {
            "epoch": self.epoch,
            "score": score,
            "epoch_score": score,
            "best_epoch": self.epoch,
            "train_loss": 1.0,
            **{f"r2_{target}": score for target in ("green", "dead", "clover", "gdm", "total")},
            "head_lr": self.recipe["optimizer"]["head_lr"],
            "seconds": 0.0,
            "images_per_second": 0.0,
        }
        finished = self.epoch >= self.recipe["schedule"]["epochs"]
        return result_of(report, finished)
