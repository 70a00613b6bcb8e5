from __future__ import annotations

from tune.cluster.trial_job import TrialJob


def test_a_job_survives_the_way_through_rays_configuration() -> None:
    job = TrialJob(
        "run", "data", "abc", "1.0", "t0001", "{}", {"CPU": 1.0}, 2, 3, "node", 4, (1, 3), "start", ("date",)
    )
    config = job.to_config()
    assert TrialJob.from_config(config | {"__trial_info__": object()}) == job
    assert all(value is getattr(job, name) for name, value in config.items())
