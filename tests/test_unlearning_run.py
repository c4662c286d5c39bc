"""A run that unlearns, before it does anything."""

import pytest
from filelock import FileLock

from server_app.unlearning import unlearn
from strategies.settings import RunSettings, SettingsError


def test_two_processes_do_not_carry_out_requests_at_once(tmp_path):
    (tmp_path / "runs").mkdir()
    settings = RunSettings(home=str(tmp_path), mode="unlearn")
    with (
        FileLock(tmp_path / "runs" / "unlearning.lock"),
        pytest.raises(SettingsError, match="another process carries out requests to forget now"),
    ):
        unlearn(settings, grid=None)


def test_a_run_that_does_not_stand_is_named(tmp_path):
    settings = RunSettings(home=str(tmp_path), mode="unlearn", run_name="treaty")
    with pytest.raises(SettingsError, match="there is no run 'treaty' under"):
        unlearn(settings, grid=None)
