"""Federated runs of the real model, compared: organizations, rule, attack and seed vary.

All organizations and the coordinator in one process, without Flower and without a chain: draws,
training, aggregation, the norm bound and evaluation are a run's. An
:class:`~benchmarks.experiments.experiment.Experiment` names every input of one such run; what it
came to is kept under the hash of those, so that a stopped study goes on where it was. Start at
:mod:`benchmarks.experiments.studies` for what is compared.
"""
