"""A round trained once more, to see that it comes to what was signed then."""

from collections.abc import Sequence

from flwr.app import RecordDict

from blockchain.canonical import hash_arrays
from blockchain.private.agent_records import AgentDecision
from blockchain.private.data_sets import open_entries
from blockchain.private.ledger import Ledger
from client_app.acting import ActingOrganization
from client_app.affected_rounds import training_of
from client_app.agent.action_space import ActionSpace
from client_app.agent.agent_file import AgentError
from client_app.agent.own_agent import agent_records, read_records
from client_app.agent.replay import effective, replayed
from client_app.local_training import train_share
from client_app.own_data import load_own_data
from client_app.own_ledger import OwnLedger, record_digest
from client_app.own_record import OwnRecord, OwnReply
from client_app.participation import Share, share_at
from client_app.request import CoordinatorError, Request, check_terms, read_request
from llm.base_model import load_base_model
from llm.draw import draw
from llm.records import Record
from strategies import protocol
from strategies.home import cache_folder, organization_folder
from strategies.run_parts import base_model_settings

_PURPOSE = "to train a round again, and compare"


class TrainingAgain(ActingOrganization):
    """One organization where it is asked whether a round can be made again.

    Nothing is learned, decided or signed, and no update leaves: the answer is the hash of what it
    came to, and in what that differs.
    """

    def train_again(self, content: RecordDict) -> RecordDict:
        """Make a round of ours again.

        Returns
        -------
        RecordDict
            A header with ``update-hash``, 32 bytes, all zeros where the round was declined; and
            ``difference``, empty where all is as it was.

        Raises
        ------
        ProtocolError, CoordinatorError
            If the message is malformed, disagrees with the public chain, or is about a round that
            we did not reply in.
        """
        request = read_request(content, self.name, self._settings)
        check_terms(self._chain, request.task, request.run, self._agreed)
        self._check_round(request)
        record = OwnRecord(organization_folder(self._settings.home_path, self.name), request.task)
        reply = record.reply_in(request.round)
        if reply is None:
            raise CoordinatorError(f"we did not reply in round {request.round}")
        with OwnLedger(self._settings, self.name, self._account, self._chain) as ledger:
            allowed = ledger.allowed(self._training_rows())
            share = self._share(request, reply, allowed)
            difference = self._otherwise_decided(request, share, ledger.ledger)
            if not (difference or share.declines):
                difference = self._otherwise_drawn(request, share, ledger.ledger)
        digest = bytes(32)
        if not (difference or share.declines):
            digest, difference = self._trained(request, record, reply, share)
        header = {"organization": self.name, "round": request.round}
        return RecordDict(
            {
                protocol.HEADER: protocol.header_record(
                    {**header, "update-hash": digest, "difference": difference}
                )
            }
        )

    # Parts

    def _check_round(self, request: Request) -> None:
        """Make sure that the round was sealed on chain, on the adapter that was received."""
        on_chain, digest = (
            self._chain.round(request.task, request.round),
            hash_arrays(request.adapter),
        )
        if not on_chain.phase.has_result or on_chain.parent_adapter != digest:
            raise CoordinatorError(
                f"round {request.round} is {on_chain.phase.name.lower()} on chain, on adapter "
                f"0x{on_chain.parent_adapter.hex()}, the coordinator sent 0x{digest.hex()}"
            )

    def _training_rows(self) -> Sequence[Record]:
        settings = self._settings
        return load_own_data(settings, self.name, cache_folder(settings.home_path)).train

    def _share(self, request: Request, reply: OwnReply, allowed: Sequence[Record]) -> Share:
        """Return what the round was trained on, at the effort that the reply states."""
        drawn = draw(
            allowed,
            self._settings.records_per_round,
            seed=self._settings.seed,
            round=self._settings.logical_round(request.round),
            organization=self.name,
        )
        percent = 0 if reply.signed.declines else int(reply.metrics["effort"])
        return share_at(percent, drawn, request.rank, self._settings)

    def _otherwise_decided(self, request: Request, share: Share, ledger: Ledger) -> str:
        """Have the agent decide again; in what it differs, empty where it does not."""
        settings = self._settings
        if settings.participation == "always" or settings.isolation:
            return ""
        space = ActionSpace(settings.effort)
        records = read_records(ledger, agent_records(ledger))
        try:
            replayed(records, space, ledger.history.ledger.hex())
        except AgentError:
            # What its tables hold stays at home.
            return "its agent does not decide again as its ledger says: foedus agent verify"
        place = (request.task.hex(), settings.logical_round(request.round))
        decided = [
            one.action
            for _, one in effective(records)
            if isinstance(one, AgentDecision) and (one.task, one.round) == place
        ]
        if [space.percent(action) for action in decided] != [share.percent]:
            return f"its ledger holds no decision for the effort of {share.percent} %"
        return ""

    def _otherwise_drawn(self, request: Request, share: Share, ledger: Ledger) -> str:
        """Hold what is drawn now against what the ledger says was trained on."""
        settings = self._settings
        trained = training_of(ledger, settings.kept_rounds, request.task).get(
            settings.logical_round(request.round)
        )
        if trained is None:
            return "its ledger knows of no training in the round"
        committed = {one.position: one for one in open_entries(ledger, _PURPOSE)}
        now = {record.id: record_digest(record) for record in share.records}
        gone = any(
            position not in committed
            or now.get(committed[position].id) != committed[position].digest
            for position in trained.drawn
        )
        if gone or len(trained.drawn) != len(now):
            # How many is nobody's business: a request may have barred them.
            return "it draws others than it trained on: records were barred or changed since"
        return ""

    def _trained(
        self, request: Request, record: OwnRecord, reply: OwnReply, share: Share
    ) -> tuple[bytes, str]:
        """Train again; the update's hash, and in what it differs from the signed one."""
        settings = self._settings
        base = load_base_model(base_model_settings(settings), cache_folder(settings.home_path))
        result = train_share(
            base, request, record, share, settings, self.name, doing="training again"
        )
        digest, signed = hash_arrays(result.arrays), reply.signed.opening.update_hash
        if digest == signed:
            return digest, ""
        return digest, f"it came to an update 0x{digest.hex()[:16]}…, 0x{signed.hex()[:16]}… signed"
