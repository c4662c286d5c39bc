"""The benchmark behind the figures of unlearning, in cells: one trained or unlearned model each.

    python -m benchmarks.unlearning cell --case records-10 --model trained retrained fast --seed 42
    python -m benchmarks.unlearning list
    python -m benchmarks.unlearning report

Four organizations in one process, as in a run but without Flower and without a chain. A cell's
measurements, record by record, go into one JSON file, its adapter into a folder; what the file
holds is not done again, and what a cell needs is made first. All tables follow from that file.

Read :mod:`~benchmarks.unlearning.cells` for what can be measured,
:mod:`~benchmarks.unlearning.requests` for what is forgotten,
:mod:`~benchmarks.unlearning.models` for how each model comes about,
:mod:`~benchmarks.unlearning.measurement` for what it is asked, and
:mod:`~benchmarks.unlearning.judgements` for what is made of the answers.
"""
