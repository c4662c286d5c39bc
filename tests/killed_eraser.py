"""A process that erases, or restores a backup, and is killed at a named step of it.

``python -m tests.killed_eraser STEP FOLDER [BACKUP] ...``: a process of its own for each three, all
of which are to be killed (`-` where there is no backup).
"""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from blockchain.private.backup import restore
from blockchain.private.database import Database
from blockchain.private.erasure import ErasureJournal
from blockchain.private.ledger import Ledger
from tests.ledger_cases import OPERATOR

#: What to erase: records and entries.
RECORDS, POSITIONS = (2, 3), (1,)

#: Steps of an erasure, in their order: nothing of the next one is done.
ERASING = ("said", "noted", "keys deleted", "payloads deleted", "keys rewritten", "all rewritten")

#: Steps of a restoring: so many files were moved into place.
RESTORING = ("0 moved", "1 moved", "2 moved", "3 moved")


def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def after(method, count=1):
    """Kill once a method has returned so often."""
    left = count

    def call(*arguments, **named):
        nonlocal left
        result = method(*arguments, **named)
        left -= 1
        if not left:
            kill()
        return result

    return call


def erase(step, folder):
    with Ledger(folder, OPERATOR) as ledger:
        if step == "said":
            ErasureJournal.note = kill
        elif step == "noted":
            ErasureJournal.note = after(ErasureJournal.note)
        elif step == "keys deleted":
            _kill_before_payloads_are_deleted()
        elif step == "payloads deleted":
            Database.rewrite = kill
        else:
            rewritten = 1 if step == "keys rewritten" else 2
            Database.rewrite = after(Database.rewrite, rewritten)
        ledger.erase("unlearning", record_numbers=RECORDS, positions=POSITIONS)


def _kill_before_payloads_are_deleted():
    note, writing = ErasureJournal.note, Database.writing
    noted = False

    def noting(*arguments):
        nonlocal noted
        note(*arguments)
        noted = True

    def write(database):
        if noted and database.path.name == "ledger.sqlite":
            kill()
        return writing(database)

    ErasureJournal.note, Database.writing = noting, write


def restored(step, folder, source):
    moved, left = Path.replace, int(step.split()[0])

    def replace(path, target):
        nonlocal left
        if Path(target).parent != folder:
            return moved(path, target)
        if not left:
            kill()
        result = moved(path, target)
        left -= 1
        return result

    Path.replace = replace
    restore(folder, source, OPERATOR)
    kill()


def main(*arguments):
    for step, folder, source in zip(arguments[::3], arguments[1::3], arguments[2::3], strict=True):
        child = os.fork()
        if not child:
            with suppress(Exception):
                if source == "-":
                    erase(step, Path(folder))
                else:
                    restored(step, Path(folder), Path(source))
            os._exit(1)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL:
            sys.exit(f"{step}: it was not killed")


if __name__ == "__main__":
    main(*sys.argv[1:])
