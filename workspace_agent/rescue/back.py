"""The step that puts back what was saved from containers before; nothing newer is overwritten."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from workspace_agent.host.safe_root import FOLDER as OPEN_FOLDER
from workspace_agent.host.safe_root import SafeRoot
from workspace_agent.model.outcome import Check, Ok, Todo
from workspace_agent.model.problem import Problem
from workspace_agent.model.words import counted, shown, size
from workspace_agent.rescue.decide import KINDS, OTHER, SAME, Verdict, beside, decide
from workspace_agent.rescue.lines import FOLDER, Back, Header, Saved
from workspace_agent.rescue.put import PutError, compared, dress, folder_of, plain, put
from workspace_agent.rescue.reading import LeftError
from workspace_agent.rescue.saving import Limits, Saving
from workspace_agent.rescue.store import Content, merged, opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from workspace_agent.rescue.run import Run

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
                parts = store.parts()
        except FileNotFoundError:
            return Ok()
        own = parts.get(self.run) or Content()
        lines = {} if own.took else merged(parts).saved
        if not lines:
            hows = Counter(back.how for back in own.backs.values())
            return Ok(", ".join(f"{hows[how]} {how}" for how in (*_ACTS, "undone") if hows[how]))
        what = counted(sum(line.type != FOLDER for line in lines.values()), "file")
        stored = size(sum(line.stored for line in lines.values()))
        return Todo(f"{what} of an earlier container ({stored})")

    def apply(self, tell: Callable[[str], None]) -> Problem | None:
        """Put them back, each noted before it is done."""
        with self._begun(make=True) as (top, run):
            run.carry(run.known)
            putting = Putting(run, top, self, tell)
            putting.all(run.known.saved.values(), self.kinds)
            run.took()
        return putting.problem()

    def restore(
        self, is_chosen: Callable[[Saved], bool], *, to: str = "", dry_run: bool = False
    ) -> Putting:
        """Put back what somebody asked for, into the folder *to* if that is given.

        Raises OSError where nothing was ever saved.
        """
        with self._begun(to) as (top, run):
            chosen = [one for one in run.known.saved.values() if is_chosen(one)]
            putting = Putting(run, top, self, dry_run=dry_run, journal=not to)
            putting.all(chosen, None)
            return putting

    def undo(self) -> list[tuple[str, Verdict]]:
        """Take back what this life put back, as far as it is still as it was put.

        It stays on the volume, and no boot puts it back by itself. Raises OSError where nothing
        was ever saved.
        """
        with self._begun() as (top, run):
            # What is in a folder comes before it.
            backs = sorted(run.own.backs.values(), key=lambda back: -back.path.count("/"))
            run.write([replace(back, how="undone") for back in backs])
            return [(back.path, _undone(top, run, back)) for back in backs]

    @contextmanager
    def _begun(self, to: str = "", make: bool = False) -> Iterator[tuple[SafeRoot, Run]]:
        with (
            opened(self.volume, self.owner, make=make) as store,
            SafeRoot.at(to or self.root) as top,
            store.begin(self.run, self.header) as run,
        ):
            yield top, run


def _undone(top: SafeRoot, run: Run, back: Back) -> Verdict:
    saved, at = run.own.saved.get(back.path), back.place or back.path
    try:
        here, info = compared(top, at, saved, lambda _: False) if saved else (OTHER, None)
        if saved is None or here != SAME:
            return Verdict("left", "it is not as it was put back" if here == OTHER else here)
        with folder_of(top, at) as folder:
            name = at.rpartition("/")[2]
            if saved.type == FOLDER:
                os.rmdir(name, dir_fd=folder.fd)
            elif back.old:
                put(run.store.data, folder, name, back.old, info)
            else:
                os.unlink(name, dir_fd=folder.fd)
    except PutError as error:
        return Verdict("left", error.verdict.why)
    except OSError as error:
        return Verdict("left", os.strerror(error.errno or 0))
    return Verdict("undone", "")


@dataclass
class Putting:
    """Things being put back; *done* says what became of each: (path, verdict)."""

    run: Run
    top: SafeRoot
    step: PutBack
    tell: Callable[[str], None] = lambda _: None
    dry_run: bool = False
    journal: bool = True
    done: list[tuple[str, Verdict]] = field(default_factory=list)
    spent: int = 0
    made: dict[str, Saved] = field(default_factory=dict)

    def all(self, lines: Iterable[Saved], kinds: Sequence[str] | None) -> None:
        """Put back *lines*: folders, files, further names of files; in the order of *kinds*."""

        def order(one: Saved) -> tuple[object, ...]:
            kind = (*(kinds or ()), one.kind).index(one.kind)
            return one.type != FOLDER, bool(one.hard), kind, one.path

        rest = sorted(lines, key=order)
        for n in range(0, len(rest), _AT_ONCE):
            acts: list[tuple[Saved, Verdict, Back]] = []
            for one in rest[n : n + _AT_ONCE]:
                verdict, at = self._judged(one, kinds)
                if verdict.how not in _ACTS or self.dry_run:
                    self.done.append((one.path, verdict))
                elif note := self._note(one, verdict.how, at):
                    acts.append((one, verdict, note))
            if self.journal:
                self.run.write([note for _, _, note in acts])
            self.done += [(one.path, self._act(one, verdict, note)) for one, verdict, note in acts]
            self.tell(f"{min(n + _AT_ONCE, len(rest))} of {len(rest)} looked at")
        self._finish()

    def _judged(self, saved: Saved, kinds: Sequence[str] | None) -> tuple[Verdict, str]:
        """Say what becomes of *saved*, and at which path."""
        at, untouched = saved.path, self.step.untouched
        if kinds is not None and at in self.run.known.undone:
            return Verdict("offered", "you took it back once"), at
        try:
            here, info = compared(self.top, at, saved, untouched)
            verdict = decide(
                saved, here, kinds=kinds,
                untouched=here == OTHER and info is not None and untouched(info)
                and info.st_mtime_ns <= saved.mtime_ns,
                same_image=bool(saved.image) and saved.image == self.step.header.image,
            )  # fmt: skip
            if verdict.how == "beside":
                at = beside(saved)
                if compared(self.top, at, saved, untouched)[0] == SAME:
                    return Verdict("same", "it is beside"), at
        except OSError as error:
            return Verdict("refused", os.strerror(error.errno or 0)), at
        if kinds is not None and verdict.how in _ACTS:
            if self.spent + saved.stored > self.step.most_bytes:
                most = size(self.step.most_bytes)
                return Verdict("offered", f"more than {most} do not come back by themselves"), at
            self.spent += saved.stored
        return verdict, at

    def _note(self, saved: Saved, how: str, at: str) -> Back | None:
        """Return the note of what is about to happen; what cannot be kept is not replaced."""
        old = None
        if how == "replaced":
            try:
                keeping = Saving(self.run, self.top, Limits(), self.tell)
                old = keeping.bytes_of(saved.path, saved.kind)  # the image's, for an `undo`
            except (OSError, LeftError) as error:
                self.done.append((saved.path, Verdict("refused", str(error))))
                return None
        return Back(saved.path, how, at if at != saved.path else "", old)

    def _act(self, saved: Saved, verdict: Verdict, note: Back) -> Verdict:
        at, made = note.place or note.path, self._made(saved)
        try:
            if saved.type == FOLDER:
                with folder_of(self.top, f"{at}/x", made):
                    return verdict
            over = self.top.look(at[1:]) if note.old else None
            if note.old and not (over and self.step.untouched(over)):
                raise PutError("refused", "it changed just now")
            with folder_of(self.top, at, made) as folder:
                if not self._linked(saved, at, folder):
                    put(self.run.store.data, folder, at.rpartition("/")[2], saved, over)
        except PutError as error:
            return error.verdict
        except OSError as error:
            return Verdict("refused", os.strerror(error.errno or 0))
        return verdict

    def _linked(self, saved: Saved, at: str, folder: SafeRoot) -> bool:
        """Make it another name of the file that it was one of, if that is back."""
        if not saved.hard or at != saved.path:
            return False
        with suppress(OSError):
            if compared(self.top, saved.hard, saved, lambda _: True)[0] == SAME:
                with folder_of(self.top, saved.hard) as other:
                    first, name = saved.hard.rpartition("/")[2], at.rpartition("/")[2]
                    os.link(first, name, src_dir_fd=other.fd, dst_dir_fd=folder.fd,
                            follow_symlinks=False)  # fmt: skip
                    return True
        return False

    def _made(self, like: Saved) -> Callable[[str, int], None]:
        """Return what dresses a folder that had to be made, so that we can go on in it."""

        def made(path: str, fd: int) -> None:
            found = self.run.known.saved.get(path)
            self.made[path] = found if found and found.type == FOLDER else plain(path, like)
            dress(fd, replace(self.made[path], mode=self.made[path].mode | 0o700))

        return made

    def _finish(self) -> None:
        """Give folders of ours their modes and times, the deepest first: all is in them now."""
        own = self.run.own
        if not own.took:  # those that a kill kept this boot from finishing, too
            rest = (own.saved.get(path) for path in own.backs)
            self.made |= {one.path: one for one in rest if one and one.type == FOLDER}
        for path in sorted(self.made, key=lambda path: -path.count("/")):
            with suppress(OSError):
                fd = self.top.open(path[1:], OPEN_FOLDER)
                try:
                    dress(fd, self.made[path])
                finally:
                    os.close(fd)

    def problem(self) -> Problem | None:
        """Return what is not right, the worst of it."""
        for how, problem in _PROBLEMS.items():
            found = [(shown(path), one.why) for path, one in self.done if one.how == how]
            if found:
                more = f", and {len(found) - 3} more" if len(found) > 3 else ""
                why = "; ".join(f"{path}: {text}" for path, text in found[:3]) + more
                what = f"{counted(len(found), 'file')} {problem.what}"
                return replace(problem, what=what, why=why, where=found[0][0])
        return None


# The worst comes first.
_PROBLEMS = {
    "damaged": Problem("rescue.damaged", "on the volume can no longer be read, and did not come"
                       " back", fix="look for another copy: the volume's disk may have lost more"),
    "refused": Problem("rescue.refused", "could not be put back",
                       fix="clear the way, and put it back by hand"),
    "beside": Problem("rescue.beside", "came back beside what is there now",
                      fix="compare the two, and keep the one you want"),
}  # fmt: skip
