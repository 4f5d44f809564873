"""The step that puts back what was saved from containers before; nothing newer is overwritten."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace

from workspace_agent.host.safe_root import FOLDER as OPEN_FOLDER
from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.model.outcome import Check, Ok, Todo
from workspace_agent.model.problem import Problem
from workspace_agent.model.words import counted, shown, size
from workspace_agent.rescue.decide import KINDS, OTHER, SAME, Verdict, beside, decide
from workspace_agent.rescue.lines import FOLDER, Back, Header, Saved
from workspace_agent.rescue.put import (
    DamagedError,
    TakenError,
    compared,
    dress,
    folder_of,
    put,
    remember,
)  # fmt: skip
from workspace_agent.rescue.reading import LeftError
from workspace_agent.rescue.saving import Limits, Saving
from workspace_agent.rescue.store import Content, opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from workspace_agent.rescue.run import Run
    from workspace_agent.rescue.store import Store

# One sync of the journal for so many acts.
_AT_ONCE = 256

_ACTS = ("restored", "replaced", "beside")


@dataclass(frozen=True)
class PutBack:
    """Put back what *owner* had outside *volume*, in the container whose root is *root*.

    *run* is this life's name, *untouched* says whether a file is as the image has it. *kinds*
    come back by themselves, up to *most_bytes*; all else is kept, and offered.
    """

    volume: str
    owner: str
    run: str
    header: Header
    untouched: Callable[[os.stat_result], bool]
    root: str = "/"
    kinds: tuple[str, ...] = KINDS
    most_bytes: int = 1 << 30
    name: str = "rescue.back"
    needs: tuple[str, ...] = ("volume.ready",)

    def check(self) -> Check:
        """See whether this life has looked at everything; the journal says what became of it."""
        try:
            with opened(self.volume, self.owner) as store:
                own = store.read(self.run) if self.run in store.runs() else Content()
                if own.took:
                    return Ok(_told(Counter(back.how for back in own.backs.values())))
                lines = store.chain().saved.values()
        except FileNotFoundError:
            return Ok()
        if not lines:
            return Ok()
        what = counted(sum(line.type != FOLDER for line in lines), "file")
        return Todo(f"{what} of an earlier container ({size(sum(one.stored for one in lines))})")

    def apply(self, tell: Callable[[str], None]) -> Problem | None:
        """Put them back, each noted before it is done."""
        with (
            opened(self.volume, self.owner, make=True) as store,
            SafeRoot.at(self.root) as top,
            store.begin(self.run, self.header) as run,
        ):
            run.carry(run.known)
            putting = Putting(store, run, top, self, tell)
            putting.all(run.known.saved.values(), self.kinds)
            run.took()
        return putting.problem()

    def restore(
        self,
        is_chosen: Callable[[Saved], bool],
        *,
        to: str = "",
        dry_run: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> Putting:
        """Put back what somebody asked for, into the folder *to* if that is given.

        Raises OSError where nothing was ever saved.
        """
        with (
            opened(self.volume, self.owner) as store,
            SafeRoot.at(to or self.root) as top,
            store.begin(self.run, self.header) as run,
        ):
            chosen = [one for one in run.known.saved.values() if is_chosen(one)]
            putting = Putting(store, run, top, self, tell, dry_run=dry_run, journal=not to)
            putting.all(chosen, None)
            return putting

    def undo(self) -> list[tuple[str, Verdict]]:
        """Take back what this life put back, as far as it is still as it was put.

        It stays on the volume, and no boot puts it back by itself. Raises OSError where nothing
        was ever saved.
        """
        with (
            opened(self.volume, self.owner) as store,
            SafeRoot.at(self.root) as top,
            store.begin(self.run, self.header) as writing,
        ):
            # What is in a folder comes before it.
            backs = sorted(writing.own.backs.values(), key=lambda back: -back.path.count("/"))
            writing.write([replace(back, how="undone") for back in backs])
            return [(back.path, _undone(store, top, writing, back)) for back in backs]


def _undone(store: Store, top: SafeRoot, run: Run, back: Back) -> Verdict:
    saved, at = run.own.saved.get(back.path), back.at or back.path
    above, _, name = at[1:].rpartition("/")
    try:
        here, info = compared(top, at, saved, lambda _: False) if saved else (OTHER, None)
        if saved is None or here != SAME:
            return Verdict("left", "it is not as it was put back" if here == OTHER else here)
        with top.folder(above) as folder:
            if saved.type == FOLDER:
                os.rmdir(name, dir_fd=folder.fd)
            elif back.old:
                put(store.data, folder, name, back.old, info)
            else:
                os.unlink(name, dir_fd=folder.fd)
    except DamagedError:
        return Verdict("left", "the image's version can no longer be read")
    except (OSError, TakenError) as error:
        return Verdict("left", getattr(error, "strerror", "") or "it changed just now")
    return Verdict("undone", "")


@dataclass
class Putting:
    """Things being put back; *done* says what became of each: (path, verdict)."""

    store: Store
    run: Run
    top: SafeRoot
    step: PutBack
    tell: Callable[[str], None]
    dry_run: bool = False
    journal: bool = True
    done: list[tuple[str, Verdict]] = field(default_factory=list)
    spent: int = 0

    def all(self, lines: Iterable[Saved], kinds: Sequence[str] | None) -> None:
        """Put back *lines*: folders, files, further names of files; in the order of *kinds*."""
        kinds_in_order = list(kinds or ())

        def order(one: Saved) -> tuple[object, ...]:
            known = one.kind in kinds_in_order
            at = kinds_in_order.index(one.kind) if known else len(kinds_in_order)
            return one.type != FOLDER, bool(one.hard), at, one.path

        rest = sorted(lines, key=order)
        for n in range(0, len(rest), _AT_ONCE):
            part = [(one, *self._judged(one, kinds)) for one in rest[n : n + _AT_ONCE]]
            acts = [(one, verdict, at) for one, verdict, at in part if verdict.how in _ACTS]
            if acts and not self.dry_run:
                acts = self._noted(acts)
                for one, verdict, at in acts:
                    self._act(one, verdict, at)
            named = {one.path for one, _, _ in acts} if not self.dry_run else set[str]()
            self.done += [(one.path, v) for one, v, _ in part if one.path not in named]
            self.tell(f"{n + len(part)} of {len(rest)} looked at")
        if not self.dry_run:
            self._finish(rest)

    def _judged(self, saved: Saved, kinds: Sequence[str] | None) -> tuple[Verdict, str]:
        """Say what becomes of *saved*, and at which path."""
        try:
            if kinds is not None and saved.path in self.run.known.undone:
                return Verdict("offered", "you took it back once"), saved.path
            here, info = compared(self.top, saved.path, saved, self.step.untouched)
            verdict = decide(
                saved, here, kinds=kinds,
                untouched=here == OTHER and info is not None and self.step.untouched(info),
                same_image=bool(saved.image) and saved.image == self.step.header.image,
            )  # fmt: skip
            at = saved.path
            if verdict.how == "beside":
                at = beside(saved)
                if compared(self.top, at, saved, self.step.untouched)[0] == SAME:
                    return Verdict("same", "it is beside"), at
        except OSError as error:
            return Verdict("refused", os.strerror(error.errno or 0)), saved.path
        if kinds is not None and verdict.how in _ACTS:
            if self.spent + saved.stored > self.step.most_bytes:
                most = size(self.step.most_bytes)
                return Verdict("offered", f"more than {most} do not come back by themselves"), at
            self.spent += saved.stored
        return verdict, at

    def _noted(self, acts: list[tuple[Saved, Verdict, str]]) -> list[tuple[Saved, Verdict, str]]:
        """Write down what is about to happen; what cannot be kept is not replaced."""
        notes, sure = [], []
        for saved, verdict, at in acts:
            old = None
            if verdict.how == "replaced":
                try:
                    keeping = Saving(self.run, self.top, Limits(), self.tell)
                    old = keeping.bytes_of(saved.path, saved.kind)  # the image's, for an `undo`
                except (OSError, LeftError) as error:
                    self.done.append((saved.path, Verdict("refused", str(error))))
                    continue
            notes.append(Back(saved.path, verdict.how, at if at != saved.path else "", old))
            sure.append((saved, verdict, at))
        if self.journal:
            self.run.write(notes)
        return sure

    def _act(self, saved: Saved, verdict: Verdict, at: str) -> None:
        try:
            if saved.type == FOLDER:
                with folder_of(self.top, f"{at}/x", self._made(saved)):
                    pass
            else:
                over = self.top.look(at[1:]) if verdict.how == "replaced" else None
                with folder_of(self.top, at, self._made(saved)) as folder:
                    if not self._linked(saved, at, folder):
                        name = at.rpartition("/")[2]
                        put(self.store.data, folder, name, saved, over)
        except DamagedError:
            verdict = Verdict("damaged", "its bytes on the volume are not those that were saved")
        except TakenError:
            verdict = Verdict("refused", "something else has its name by now")
        except OSError as error:
            verdict = Verdict("refused", os.strerror(error.errno or 0))
        self.done.append((saved.path, verdict))

    def _linked(self, saved: Saved, at: str, folder: SafeRoot) -> bool:
        """Make it another name of the file that it was one of, if that is back."""
        if not saved.hard or at != saved.path:
            return False
        first = replace(saved, path=saved.hard)
        with suppress(OSError):
            if compared(self.top, saved.hard, first, lambda _: True)[0] != SAME:
                return False
            with folder_of(self.top, saved.hard) as other:
                names = saved.hard.rpartition("/")[2], at.rpartition("/")[2]
                os.link(*names, src_dir_fd=other.fd, dst_dir_fd=folder.fd, follow_symlinks=False)
                return True
        return False

    def _made(self, like: Saved) -> Callable[[str, int], None]:
        """Return what dresses a folder that had to be made."""

        def made(path: str, fd: int) -> None:
            found = self.run.known.saved.get(path)
            known = found if found and found.type == FOLDER else remember(path, like)
            dress(fd, replace(known, mode=known.mode | 0o700))

        return made

    def _finish(self, lines: Iterable[Saved]) -> None:
        """Give folders of ours their modes and times, the deepest first: all is in them now."""
        backs = self.run.own.backs if self.journal else {}
        ours = [one for one in lines if one.type == FOLDER and one.path in backs]
        for one in sorted(ours, key=lambda one: -one.path.count("/")):
            with suppress(OSError):
                fd = self.top.open(one.path[1:], OPEN_FOLDER)
                try:
                    dress(fd, one)
                finally:
                    os.close(fd)

    def problem(self) -> Problem | None:
        """Return what is not right, the worst of it."""
        for how, problem in _PROBLEMS.items():
            found = [(path, one.why) for path, one in self.done if one.how == how]
            if found:
                more = f", and {len(found) - 3} more" if len(found) > 3 else ""
                why = "; ".join(f"{shown(path)}: {text}" for path, text in found[:3]) + more
                what = f"{counted(len(found), 'file')} {problem.what}"
                return replace(problem, what=what, why=why, where=shown(found[0][0]))
        return None


# The worst comes first.
_PROBLEMS = {
    "damaged": Problem(
        "rescue.damaged",
        "on the volume can no longer be read, and did not come back",
        fix="look for another copy: the volume's disk may have lost more",
    ),
    "refused": Problem(
        "rescue.refused", "could not be put back", fix="clear the way, and put it back by hand"
    ),
    "beside": Problem(
        "rescue.beside",
        "came back beside what is there now",
        fix="compare the two, and keep the one you want",
    ),
}


def _told(hows: Counter[str]) -> str:
    return ", ".join(f"{hows[how]} {how}" for how in (*_ACTS, "undone") if hows[how])
