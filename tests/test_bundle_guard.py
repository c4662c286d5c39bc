"""An organization's node starts the application that it agreed to, and no other."""

import hashlib
import json
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from client_app.bundle_guard import BundleGuard, BundleRefusedError
from client_app.deployment.flower import flower_environment
from client_app.deployment.flower_commands import write_guard
from server_app.app import app as server_app
from strategies.settings import RunSettings, SettingsError
from tests.deployed_flower import superlink, supernode
from tests.small_application import answered, application, sha256

CLIENT = """
from pathlib import Path
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp
Path(KEYSTORE + ".stolen").write_text(Path(KEYSTORE).read_text())
app = ClientApp()

@app.query()
def query(message, context):
    return Message(RecordDict(), reply_to=message)
"""


def stealing(folder: Path, keystore: Path, answer: Path) -> Path:
    """An application that reads a keystore as soon as it is imported."""
    return application(folder, f"KEYSTORE = {str(keystore)!r}\n{CLIENT}", answer)


@pytest.mark.real
def test_a_bundle_changed_by_one_byte_that_reads_the_keystore_never_runs(tmp_path):
    keystore, answer = tmp_path / "keystore.json", tmp_path / "answer"
    stolen = Path(f"{keystore}.stolen")
    keystore.write_text(json.dumps({"key": "secret"}))
    app = stealing(tmp_path / "app", keystore, answer)
    agreed = sha256(app)
    with superlink(tmp_path / "coordinator") as port:
        env = flower_environment(tmp_path / "coordinator")
        path = write_guard(tmp_path / "bin", [agreed])
        with supernode(tmp_path / "node", port, path, 'organization="shop"') as log:
            client = app / "small_app" / "client.py"
            original = client.read_text()
            client.write_text(original.replace("app = ClientApp()", "app = ClientApp() "))
            changed = sha256(app)
            assert changed != agreed
            # Whichever the run says it is.
            for named in (agreed, changed):
                said = answered(app, env, named, answer)
                assert f"has SHA-256 {changed}, this organization agreed to {agreed}" in said
            assert not list((tmp_path / "node").rglob("client.py"))
            client.write_text(original)
            said = answered(app, env, changed, answer)
            assert f"the run's terms name the application {changed!r}" in said
            assert not stolen.exists()
            # The control: what was agreed to runs, and reads what it likes.
            assert answered(app, env, agreed, answer) == "answered", log.read_text()
            assert stolen.read_text() == keystore.read_text()


def task(content: bytes, *, named: str, fab_hash: str = "", fab_id: str = "somebody/small-app"):
    """A task as Flower pulls it."""
    run = SimpleNamespace(fab_id=fab_id, fab_version="1.0.0")
    fab = SimpleNamespace(content=content, hash_str=fab_hash or hashlib.sha256(content).hexdigest())
    return SimpleNamespace(), SimpleNamespace(run_config={"bundle": named}), run, fab


def test_an_agreed_bundle_is_not_loaded_from_where_the_coordinator_points(tmp_path, monkeypatch):
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flwr"))
    content = b"a bundle"
    agreed = hashlib.sha256(content).hexdigest()
    unpacked = tmp_path / "flwr" / "apps" / f"somebody.small-app.1.0.0.{agreed[:8]}"

    def installed(pulled):
        guard = BundleGuard([agreed], lambda: pulled, lambda _: unpacked)
        guard.pull()
        return guard.install(content)

    assert installed(task(content, named=agreed)) == unpacked
    for elsewhere in ({"fab_hash": "0" * 64}, {"fab_id": "other/app"}):
        with pytest.raises(BundleRefusedError, match="would be loaded from"):
            installed(task(content, named=agreed, **elsewhere))


def test_whoever_agreed_to_nothing_starts_nothing():
    content = b"a bundle"
    pulled = task(content, named=hashlib.sha256(content).hexdigest())
    guard = BundleGuard([], lambda: pulled, lambda _: pytest.fail("unpacked"))
    guard.pull()
    with pytest.raises(BundleRefusedError, match="agreed to none"):
        guard.install(content)


def test_the_same_sources_make_the_same_bundle_wherever_they_lie(tmp_path):
    keystore, answer = tmp_path / "keystore.json", tmp_path / "answer"
    first, second = (
        stealing(tmp_path / name / "app", keystore, answer) for name in ("here", "there")
    )
    assert sha256(first) == sha256(second)
    with zipfile.ZipFile(tmp_path / "x.fab", "w") as archive:
        archive.writestr("small_app/client.py", "x")
    assert hashlib.sha256((tmp_path / "x.fab").read_bytes()).hexdigest() != sha256(first)


def test_a_run_that_names_another_bundle_than_its_own_ends_before_anything_is_done(tmp_path):
    settings = RunSettings.from_run_config({"bundle": "ab" * 32, "home": str(tmp_path / "home")})
    grid = SimpleNamespace(run=SimpleNamespace(fab_hash="cd" * 32))
    context = SimpleNamespace(run_config=settings.to_run_config())
    with pytest.raises(SettingsError, match=f"bundle: {'ab' * 32}: this .* {'cd' * 32}"):
        server_app(grid, context)
    assert not (tmp_path / "home").exists()
