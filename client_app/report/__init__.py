"""``foedus report``: one self-contained HTML page about a run, or about an organization's ledger.

What a page says is gathered first, as plain values: :mod:`client_app.report.run_contents` from a
run's folder and the public chain, :mod:`client_app.report.ledger_contents` from an organization's
private ledger. Each reader gets what it may see: the coordinator's page holds nothing of a private
ledger, and an organization's nothing that others reported to the coordinator. Then
:mod:`client_app.report.page` lays it out.
"""
