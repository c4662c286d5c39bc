"""The figures in ``docs/results``, each by one command; ``python -m benchmarks`` runs them all."""
